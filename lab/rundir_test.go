package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestSweepersSpareTheLiving has many labs made, swept for and closed at once: a
// directory is its owner's from the moment others can see it.
func TestSweepersSpareTheLiving(t *testing.T) {
	base := t.TempDir()
	const labs, times = 8, 100
	var all sync.WaitGroup
	for range labs {
		all.Go(func() {
			for range times {
				sweep(base)
				if err := ownOne(base); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
		t.Errorf("%d directories are left (%v)", len(left), err)
	}
}

// ownOne makes a directory, writes in it while others sweep, and removes it.
func ownOne(base string) error {
	dir, err := newRunDir(base)
	if err != nil {
		return err
	}
	sweep(base)
	if err := os.WriteFile(filepath.Join(dir.path, "share", "file"), nil, 0o600); err != nil {
		return fmt.Errorf("write into a living lab: %w", err)
	}
	return dir.remove()
}

// TestSweepRemovesTheDead: what a killed owner left has no lock.
func TestSweepRemovesTheDead(t *testing.T) {
	base := t.TempDir()
	dead, err := newRunDir(base)
	if err != nil {
		t.Fatal(err)
	}
	living, err := newRunDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer living.remove()
	dead.lock.Close() // as the kernel does
	sweep(base)
	if _, err := os.Stat(dead.path); !os.IsNotExist(err) {
		t.Errorf("the dead lab's directory: %v, want it gone", err)
	}
	if _, err := os.Stat(living.path); err != nil {
		t.Errorf("the living lab's directory: %v", err)
	}
}
