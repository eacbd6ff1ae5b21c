package disk_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"mailweir/disk"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	write := func(text string, fails error) error {
		return disk.Replace(path, 0o600, func(f io.Writer) error {
			_, err := io.WriteString(f, text)
			return errors.Join(err, fails)
		})
	}
	holds := func(want string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want {
			t.Errorf("the file holds %q (%v), want %q", b, err, want)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("%d files, want only the one", len(list))
		}
	}
	if err := write("old", nil); err != nil {
		t.Fatal(err)
	}
	holds("old")
	full := errors.New("the disk is full")
	if err := write("half of the n", full); !errors.Is(err, full) {
		t.Errorf("a write that fails: %v", err)
	}
	holds("old")
	// What a crash has left is longer than what comes.
	if err := os.WriteFile(path+".new", []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write("new", nil); err != nil {
		t.Fatal(err)
	}
	holds("new")
	if s, err := os.Stat(path); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", s.Mode(), err)
	}
}
