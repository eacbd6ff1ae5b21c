package disk_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/disk"
)

// What Keep writes at a tick and at its end, Restore reads; what cannot be read
// is moved aside, and said.
func TestKeepAndRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	load := func(want string, fails error) error {
		return disk.Restore(path, func(f io.Reader) error {
			b, err := io.ReadAll(f)
			if string(b) != want {
				t.Errorf("it holds %q, want %q", b, want)
			}
			return errors.Join(err, fails)
		})
	}
	if err := disk.Restore(path, func(io.Reader) error { t.Error("there is none"); return nil }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	tick, told, state := make(chan time.Time), make(chan error), "first"
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		disk.Keep(ctx, path, tick, func(w io.Writer) error { _, err := io.WriteString(w, state); return err },
			func(err error) { told <- err })
	}()
	tick <- time.Time{}
	if err := errors.Join(<-told, load("first", nil)); err != nil {
		t.Error(err)
	}
	state = "last"
	cancel()
	if err := <-told; err != nil {
		t.Error(err)
	}
	<-ended
	if err := load("last", errors.New("it is damaged")); err == nil || !strings.Contains(err.Error(), "state.damaged now") {
		t.Errorf("a damaged one: %v", err)
	}
	if _, err := os.Stat(path + disk.Aside); err != nil {
		t.Error(err)
	}
}
