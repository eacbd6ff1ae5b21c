// Package disk writes files so that they survive a power cut whole, or not at
// all.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts what write writes in the place of a file: after whatever happens
// meanwhile, the old one is there or the new one, whole. It is for one writer at
// a time: the new one is path.new until it is done, so that what a crash has
// left is not there for long, and never twice.
func Replace(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name())) // it may be what fills the disk
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes new names in a folder survive a power cut, where the file system
// lets it be asked for.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
