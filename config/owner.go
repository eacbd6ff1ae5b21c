package config

import (
	"io/fs"
	"os"
	"syscall"
)

// chownLike gives f the owner of like. Only root may give files away; another
// user's new file is his own already.
func chownLike(f *os.File, like fs.FileInfo) error {
	st, ok := like.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
