package harvest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mailweir/disk"
)

// KeepEvery is how often the tick of Keep should come: what a crash can forget.
const KeepEvery = time.Minute

// Aside is what the name of a snapshot that cannot be read ends with.
const Aside = ".damaged"

// Restore reads the snapshot at path, if there is one. What is damaged never
// keeps anybody from starting: it is moved aside, and the alarm says so.
func (w *Watch) Restore(path string) (alarm error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("what sources did is forgotten: %w", err)
	}
	defer f.Close()
	if err = w.Load(f); err == nil {
		return nil
	}
	aside := path + Aside
	if moved := os.Rename(path, aside); moved != nil {
		return fmt.Errorf("what sources did is forgotten: %w (and %v)", err, moved)
	}
	return fmt.Errorf("what sources did is forgotten: %w; it lies in %s now, delete it once you have looked", err, aside)
}

// Keep writes snapshots to path until ctx ends, and one more then. failed is
// told each time that one could not be written, and nil when it could again.
func (w *Watch) Keep(ctx context.Context, path string, tick <-chan time.Time, failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			failed(w.write(path))
			return
		case <-tick:
			failed(w.write(path))
		}
	}
}

// write puts a snapshot in place of the last one, whole or not at all.
func (w *Watch) write(path string) error {
	if err := disk.Replace(path, 0o600, w.Save); err != nil {
		return fmt.Errorf("keep what sources did (is the disk of %s full?): %w", filepath.Dir(path), err)
	}
	return nil
}
