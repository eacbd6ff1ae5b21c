package harvest

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"mailweir/disk"
)

// KeepEvery is how often the tick of Keep should come: what a crash can forget.
const KeepEvery = disk.KeepEvery

// Aside is what the name of a snapshot that cannot be read ends with.
const Aside = disk.Aside

// Restore reads the snapshot at path, if there is one. What is damaged never
// keeps anybody from starting: it is moved aside, and the alarm says so.
func (w *Watch) Restore(path string) (alarm error) {
	if err := disk.Restore(path, w.Load); err != nil {
		return fmt.Errorf("what sources did is forgotten: %w", err)
	}
	return nil
}

// Keep writes snapshots to path until ctx ends, and one more then. failed is
// told each time that one could not be written, and nil when it could again.
func (w *Watch) Keep(ctx context.Context, path string, tick <-chan time.Time, failed func(error)) {
	disk.Keep(ctx, path, tick, w.Save, func(err error) {
		if err != nil {
			err = fmt.Errorf("keep what sources did (is the disk of %s full?): %w", filepath.Dir(path), err)
		}
		failed(err)
	})
}
