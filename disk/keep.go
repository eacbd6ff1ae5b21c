package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// KeepEvery is how often the tick of Keep should come: what a crash can forget.
const KeepEvery = time.Minute

// Aside is what the name of a snapshot that cannot be read ends with.
const Aside = ".damaged"

// Restore has load read the snapshot at path, if there is one. What is damaged
// never keeps anybody from starting: it is moved aside, and the error says so.
func Restore(path string, load func(io.Reader) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err = load(f); err == nil {
		return nil
	}
	aside := path + Aside
	if moved := os.Rename(path, aside); moved != nil {
		return fmt.Errorf("%w (and %v)", err, moved)
	}
	return fmt.Errorf("%w; it lies in %s now, delete it once you have looked", err, aside)
}

// Keep has save write snapshots to path, which is replaced whole or not at all,
// at each tick until ctx ends, and once more then. told is told each time how
// that went.
func Keep(ctx context.Context, path string, tick <-chan time.Time, save func(io.Writer) error, told func(error)) {
	for {
		select {
		case <-ctx.Done():
			told(Replace(path, 0o600, save))
			return
		case <-tick:
			told(Replace(path, 0o600, save))
		}
	}
}
