//go:build !race

package lab

var buildFlags []string
