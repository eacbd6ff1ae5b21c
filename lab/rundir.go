package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runBase holds a directory a living lab. It is on a disk where possible, not
// in memory like /tmp, so that servers sync as they would in earnest.
const runBase = "/var/tmp/mailweir-lab"

// runDir is the directory of one lab. The lock on it is the kernel's word that
// its owner lives: a process id may come again, a lock does not outlive its
// holder.
type runDir struct {
	path string
	lock *os.File
}

func newRunDir(base string) (runDir, error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return runDir{}, err
	}
	path, err := os.MkdirTemp(base, fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return runDir{}, err
	}
	lock, err := lockDir(path)
	if err != nil {
		return runDir{}, err
	}
	if err := os.Chmod(path, 0o755); err != nil { // servers' users walk through it
		return runDir{}, err
	}
	return runDir{path, lock}, os.Mkdir(filepath.Join(path, "share"), 0o1777)
}

// lockDir takes the lock of a directory, or says that somebody has it.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// remove removes the directory before the lock goes, so that no sweeper comes
// between.
func (d runDir) remove() error {
	defer d.lock.Close()
	return removeTree(d.path)
}

// removeTree removes a lab's directory, but never reaches through a mount: in
// our own mount namespace there is none below it, and if there were, what lies
// behind it would be the machine's.
func removeTree(path string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), " "+path+"/") {
		return fmt.Errorf("%s has something mounted below it: unmount that, then remove it", path)
	}
	return os.RemoveAll(path)
}

// sweep removes what labs left whose owner was killed. Errors are left for the
// next sweep: another process may be sweeping at this moment.
func sweep(base string) {
	entries, _ := os.ReadDir(base)
	for _, e := range entries {
		path := filepath.Join(base, e.Name())
		lock, err := lockDir(path)
		if err != nil {
			continue // its owner lives
		}
		sweepGroup(e.Name())
		_ = removeTree(path)
		lock.Close()
	}
}
