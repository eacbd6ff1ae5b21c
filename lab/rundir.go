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
	path, lock, err := makeLocked(base)
	if err != nil {
		return runDir{}, err
	}
	if err := os.Chmod(path, 0o755); err != nil { // servers' users walk through it
		return runDir{}, err
	}
	return runDir{path, lock}, os.Mkdir(filepath.Join(path, "share"), 0o1777)
}

// makeLocked makes a directory and locks it in one step, as far as a sweeper can
// see: both hold the base's lock. Without that a sweeper might lock the
// directory first, and take its owner for dead.
func makeLocked(base string) (path string, lock *os.File, err error) {
	all, err := lockDir(base, unix.LOCK_EX)
	if err != nil {
		return "", nil, err
	}
	defer all.Close()
	if path, err = os.MkdirTemp(base, fmt.Sprintf("%d-", os.Getpid())); err != nil {
		return "", nil, err
	}
	lock, err = lockDir(path, unix.LOCK_EX|unix.LOCK_NB)
	return path, lock, err
}

// lockDir takes the lock of a directory; with LOCK_NB it does not wait, but
// says that somebody has it.
func lockDir(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
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
	for _, lock := range lockDead(base) {
		sweepGroup(filepath.Base(lock.Name()))
		_ = removeTree(lock.Name())
		lock.Close()
	}
}

// lockDead locks the directories whose owner is dead. It holds the base's lock
// only while it looks; a directory may take long to remove.
func lockDead(base string) (dead []*os.File) {
	all, err := lockDir(base, unix.LOCK_EX)
	if err != nil {
		return nil // there is no base yet
	}
	defer all.Close()
	entries, _ := os.ReadDir(base)
	for _, e := range entries {
		if lock, err := lockDir(filepath.Join(base, e.Name()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			dead = append(dead, lock)
		}
	}
	return dead
}
