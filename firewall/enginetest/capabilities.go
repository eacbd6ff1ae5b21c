package enginetest

import (
	"golang.org/x/sys/unix"
)

// InsideWith runs f in the server's namespace with no capability but those
// given. Capabilities are a thread's own, and the thread ends with f.
func (w *World) InsideWith(capabilities []int, f func() error) error {
	return w.in(w.Server, func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		for _, c := range capabilities {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		if err := unix.Capset(&header, &data[0]); err != nil {
			return err
		}
		return f()
	})
}
