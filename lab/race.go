//go:build race

package lab

// buildFlags carry the race detector from the test to the program it drives:
// what it finds is in the program's log, where the lab looks for it at the end.
var buildFlags = []string{"-race"}
