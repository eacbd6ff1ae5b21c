package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mailweir/disk"
)

// Commit writes the text to Path so that, whatever happens meanwhile, either
// the old file is there or the new one. Mode and owner stay those of the old
// file. A symbolic link stays one: its target is replaced.
func (f *File) Commit() error {
	path, err := filepath.EvalSymlinks(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		path, err = f.Path, nil
	}
	if err != nil {
		return fmt.Errorf("find the configuration: %w", err)
	}
	like, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the configuration: %w", err)
	}
	return WriteFile(path, f.Text, 0o640, like)
}

// WriteFile writes a file by way of a temporary one beside it: synced, renamed,
// and the folder synced. Where like is not nil the file gets its mode and owner
// in place of mode and ours.
func WriteFile(path string, text []byte, mode fs.FileMode, like fs.FileInfo) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // nothing is there any more after the rename
	defer tmp.Close()
	if err := fill(tmp, text, mode, like); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return disk.SyncDir(dir)
}

func fill(tmp *os.File, text []byte, mode fs.FileMode, like fs.FileInfo) error {
	if _, err := tmp.Write(text); err != nil {
		return err
	}
	if like != nil {
		mode = like.Mode().Perm()
		if err := chownLike(tmp, like); err != nil {
			return err
		}
	}
	return errors.Join(tmp.Chmod(mode), tmp.Sync(), tmp.Close())
}
