package process

import "os"

// SetName sets the name that ps and top show. A role is started from
// /proc/self/exe and would be called "exe" otherwise. Without it nothing is
// lost but the name, so an error is not told.
func SetName(name string) {
	if f, err := os.OpenFile("/proc/self/comm", os.O_WRONLY, 0); err == nil {
		f.WriteString(name)
		f.Close()
	}
}
