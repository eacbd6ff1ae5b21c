package relay

import (
	"io/fs"
	"syscall"
)

// inode tells a file from another of the same size and time that was renamed
// over it.
func inode(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
