package firewall

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"mailweir/disk"
)

// The files of a ledger's folder:
//
//	snapshot              everything, as it was when generation N began
//	log-0000000000000007  what changed since generation 7 began
//	lock                  held by the process that writes
//
// A log only grows. When it has grown larger than the snapshot, a log of the
// next generation is begun and a new snapshot written beside the old one and
// renamed over it; then older logs are removed. Entries say what is, not what
// to add, so reading a log over a snapshot that knows its beginning already
// changes nothing. Whatever moment a crash picks, the snapshot and all logs of
// its generation and later say everything up to the last sync.
const (
	snapshotName = "snapshot"
	logPattern   = "log-%016x"
)

// minRotate is the least a log grows before a snapshot is written.
const minRotate = 4 << 20

// maxPending bounds what is kept for a disk that takes nothing. Beyond it the
// next thing written is a snapshot, which needs no log.
const maxPending = 32 << 20

// store writes frames to the files. append never waits; flush does the work
// and is called by one goroutine at a time.
type store struct {
	dir  string
	lock *os.File

	mu      sync.Mutex
	pending []byte
	lost    bool // frames were thrown away: only a new snapshot can tell
	problem error
	wake    chan struct{}

	writing    sync.Mutex // all below
	log        *os.File   // nil: to be made
	generation uint64     // of log
	size       int64      // of log, as far as it is good
	snapshot   int64      // size of the snapshot
	stale      bool       // a new snapshot is due whatever the sizes
}

// openStore takes the folder for this process.
func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the ledger's folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the ledger: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock the ledger in %s: another guard holds it, stop that first: %w", dir, err)
	}
	return &store{dir: dir, lock: lock, wake: make(chan struct{}, 1)}, nil
}

func (s *store) append(frames []byte) {
	if s == nil { // a ledger of NewLedger
		return
	}
	s.mu.Lock()
	if len(s.pending)+len(frames) > maxPending && s.problem != nil {
		s.pending, s.lost = nil, true
	}
	if !s.lost {
		s.pending = append(s.pending, frames...)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flush writes and syncs what is pending, and rotates when it is time.
// everything yields the frames of a snapshot.
func (s *store) flush(everything iter.Seq[[]byte]) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.writePending()
	if err == nil && (s.stale || s.isLost() || s.size > max(minRotate, s.snapshot)) {
		err = s.rotate(everything)
	}
	s.mu.Lock()
	s.problem = err
	s.mu.Unlock()
	return err
}

// save writes and syncs what is pending. It is not done when that is not enough.
func (s *store) save() (done bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.stale || s.isLost() {
		return false, nil
	}
	err = s.writePending()
	s.mu.Lock()
	s.problem = err
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}: // Run may have found nothing pending, and a snapshot be due
	default:
	}
	return true, err
}

func (s *store) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

func (s *store) writePending() error {
	s.mu.Lock()
	frames := s.pending
	s.pending = nil
	s.mu.Unlock()
	if len(frames) == 0 {
		return nil
	}
	err := s.writeLog(frames)
	if err != nil {
		s.mu.Lock()
		s.pending = append(frames, s.pending...)
		s.mu.Unlock()
	}
	return err
}

// writeLog leaves the log as it was when it cannot write all of frames: a torn
// frame in the middle would cost what comes behind it.
func (s *store) writeLog(frames []byte) error {
	if s.log == nil {
		if err := s.beginLog(s.generation + 1); err != nil {
			return err
		}
	}
	if _, err := s.log.WriteAt(frames, s.size); err != nil {
		s.log.Truncate(s.size) // the next write goes to the same place anyway
		return fmt.Errorf("write ledger: %w", err)
	}
	if err := s.log.Sync(); err != nil {
		s.stale = true // what a failed sync left on the disk, nobody knows: write it all anew
		return fmt.Errorf("sync ledger: %w", err)
	}
	s.size += int64(len(frames))
	return nil
}

func (s *store) logPath(generation uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf(logPattern, generation))
}

// beginLog makes the log of a generation and goes over to it. On an error the
// former log stays.
func (s *store) beginLog(generation uint64) error {
	f, err := os.OpenFile(s.logPath(generation), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("begin ledger log: %w", err)
	}
	header := appendHeader(nil, generation)
	if err := errors.Join(writeSync(f, header), disk.SyncDir(s.dir)); err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("begin ledger log: %w", err)
	}
	if s.log != nil {
		s.log.Close()
	}
	s.log, s.generation, s.size = f, generation, int64(len(header))
	return nil
}

func writeSync(f *os.File, b []byte) error {
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// rotate begins a log, writes a snapshot of that generation and removes what
// is older. The frames that were thrown away before it began are in what
// everything yields; those appended meanwhile go to the new log.
func (s *store) rotate(everything iter.Seq[[]byte]) error {
	if s.log == nil || s.size > frameSize { // a disk that stays full must not collect empty logs
		if err := s.beginLog(s.generation + 1); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.lost = false
	s.mu.Unlock()
	size, err := s.writeSnapshot(everything)
	if err != nil {
		s.stale = true // the log that was begun is not enough without it
		return err
	}
	s.snapshot, s.stale = size, false
	return s.removeOldLogs()
}

func (s *store) writeSnapshot(everything iter.Seq[[]byte]) (int64, error) {
	var size int64
	err := disk.Replace(filepath.Join(s.dir, snapshotName), 0o600, func(f io.Writer) (err error) {
		size, err = writeFrames(f, s.generation, everything)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("write ledger snapshot: %w", err)
	}
	return size, nil
}

func writeFrames(f io.Writer, generation uint64, everything iter.Seq[[]byte]) (int64, error) {
	w := bufio.NewWriterSize(f, 1<<20)
	size, err := w.Write(appendHeader(nil, generation))
	for frames := range everything {
		if err != nil {
			return 0, err
		}
		var n int
		n, err = w.Write(frames)
		size += n
	}
	n, err := w.Write(appendEnd(nil, uint64(size/frameSize)))
	return int64(size + n), errors.Join(err, w.Flush())
}

func (s *store) removeOldLogs() error {
	generations, err := s.logs()
	for _, g := range generations {
		if g < s.generation {
			err = errors.Join(err, os.Remove(s.logPath(g)))
		}
	}
	return err
}

// logs lists the generations of the logs that are there, in order.
func (s *store) logs() ([]uint64, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the ledger's folder: %w", err)
	}
	var generations []uint64
	for _, e := range list {
		var g uint64
		if n, err := fmt.Sscanf(e.Name(), logPattern, &g); n == 1 && err == nil && e.Name() == fmt.Sprintf(logPattern, g) {
			generations = append(generations, g)
		}
	}
	return generations, nil
}

func (s *store) close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	var err error
	if s.log != nil {
		err = s.log.Close()
	}
	return errors.Join(err, s.lock.Close())
}
