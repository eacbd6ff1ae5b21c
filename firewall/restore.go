package firewall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"
)

// syncWithin is how long an entry may wait for others to be synced with it.
const syncWithin = 500 * time.Millisecond

// retryAfter is the pause after the disk refused.
const retryAfter = 5 * time.Second

// Recovery says what OpenLedger found. Alarms are for a person to look at.
type Recovery struct {
	Standing int
	Alarms   []string
}

// OpenLedger reads the ledger kept in dir, which it makes if need be, and
// locks it against a second process. What is damaged never keeps it from
// starting: a torn end of a log costs that end, and a damaged snapshot is
// moved aside with an alarm. now is the clock by which bans end.
func OpenLedger(dir string, terms Terms, now func() time.Time) (*Ledger, Recovery, error) {
	store, err := openStore(dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	l := &Ledger{
		now: now, store: store, v4: newTable4(), v6: newTable6(),
		guards: NewGuards(nil), present: newGuards(nil), terms: terms.withDefaults(), notes: newNotes(),
	}
	var rec Recovery
	if err := l.restore(&rec); err != nil {
		store.close()
		return nil, rec, err
	}
	rec.Standing = l.Len()
	return l, rec, nil
}

// NewLedger returns a Ledger that keeps nothing on disk, for judging recorded
// days again. Its Run, Sync and Close must not be called.
func NewLedger(terms Terms, now func() time.Time) *Ledger {
	return &Ledger{
		now: now, v4: newTable4(), v6: newTable6(),
		guards: NewGuards(nil), present: newGuards(nil), terms: terms.withDefaults(), notes: newNotes(),
	}
}

func (l *Ledger) restore(rec *Recovery) error {
	from := l.restoreSnapshot(rec)
	generations, err := l.store.logs()
	if err != nil {
		return err
	}
	for _, g := range generations {
		if g < from {
			os.Remove(l.store.logPath(g)) // the snapshot knows it; a crash came before the removal
			continue
		}
		if err := l.restoreLog(g, rec); err != nil {
			return err
		}
	}
	l.store.generation = max(l.store.generation, from)
	l.clamp()
	return nil
}

// restoreSnapshot returns the generation that the logs have to begin with.
func (l *Ledger) restoreSnapshot(rec *Recovery) uint64 {
	path := filepath.Join(l.store.dir, snapshotName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var generation uint64
	if err == nil {
		defer f.Close()
		generation, err = l.readSnapshot(f)
	}
	if err == nil {
		return generation
	}
	l.v4, l.v6, l.notes = newTable4(), newTable6(), newNotes() // half a snapshot is not believed
	aside := fmt.Sprintf("%s.damaged-%d", path, l.now().Unix())
	alarm := fmt.Sprintf("the ledger's snapshot cannot be used (%v): bans older than the last log are forgotten; it was moved to %s, check the disk and remove it", err, aside)
	if err := os.Rename(path, aside); err != nil {
		alarm = fmt.Sprintf("%s (moving it went wrong: %v)", alarm, err)
	}
	rec.Alarms = append(rec.Alarms, alarm)
	l.store.stale = true
	return 0
}

// readSnapshot believes all of it or nothing.
func (l *Ledger) readSnapshot(f *os.File) (generation uint64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	l.store.snapshot = info.Size()
	l.v4.reserve(int(info.Size() / frameSize)) // what is never used of it takes no memory
	var complete bool
	some := make([]record, 0, 256)
	good, err := readFrames(f, func(n uint64, c change) error {
		switch {
		case (n == 0) != (c.kind == kindHeader), complete:
			return errDamaged
		case c.kind == kindHeader:
			generation = c.num
		case c.kind == kindEnd && c.num != n:
			return errDamaged
		case c.kind == kindEnd:
			complete = true
		case c.kind == kindBan4:
			if some = append(some, c.ban); len(some) == cap(some) {
				l.v4.putAll(some)
				some = some[:0]
			}
		default:
			l.replay(c)
		}
		return nil
	})
	l.v4.putAll(some)
	if err == nil && (!complete || good != info.Size()) {
		err = errDamaged
	}
	return generation, err
}

// restoreLog reads one log as far as it is sound, and makes it the one that
// is written on.
func (l *Ledger) restoreLog(generation uint64, rec *Recovery) error {
	path := l.store.logPath(generation)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open ledger log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open ledger log: %w", err)
	}
	good, err := readFrames(f, func(n uint64, c change) error {
		if n == 0 && (c.kind != kindHeader || c.num != generation) {
			return errDamaged
		}
		l.replay(c)
		return nil
	})
	switch lost := info.Size() - good; {
	case err != nil: // of a frame that is whole: no crash leaves that
		l.store.stale = true
		rec.Alarms = append(rec.Alarms, fmt.Sprintf("the ledger's log is damaged (%v): bans in its last %d bytes are forgotten; it was copied to %s, check the disk and remove it",
			err, lost, l.copyAside(path)))
	case lost > 0: // a power cut leaves that of what was not synced, and a disk of anything
		rec.Alarms = append(rec.Alarms, fmt.Sprintf("the ledger's log ends within an entry: the ban in its last %d bytes is forgotten; it was copied to %s, remove it once you have looked (after a power cut nothing that was saved is missing, else check the disk)",
			lost, l.copyAside(path)))
	}
	return l.continueLog(f, generation, good)
}

// copyAside keeps a log as it was found, and says where.
func (l *Ledger) copyAside(path string) string {
	aside := fmt.Sprintf("%s.damaged-%d", path, l.now().Unix())
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(aside, text, 0o600)
	}
	if err != nil {
		return fmt.Sprintf("nothing: %v", err)
	}
	return aside
}

// continueLog makes f the log to write on. One without a sound header is given
// up: the next is begun in its place.
func (l *Ledger) continueLog(f *os.File, generation uint64, good int64) error {
	if l.store.log != nil {
		l.store.log.Close()
		l.store.log = nil
		l.store.stale = true // two logs: a crash came before the snapshot, write it now
	}
	l.store.generation = generation
	if good < frameSize {
		return f.Close()
	}
	l.store.log, l.store.size = f, good
	if err := f.Truncate(good); err != nil {
		l.store.log = nil // it is full of what must not be read: begin another
		return f.Close()
	}
	return nil
}

// readFrames calls apply with each change and the number of the frame that
// completed it. It stops at the first frame that is torn, damaged, or refused
// by apply; good is the length of all that came before.
func readFrames(r io.Reader, apply func(n uint64, c change) error) (good int64, err error) {
	br := bufio.NewReaderSize(r, 1<<20)
	var d frameReader
	var f [frameSize]byte
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(br, f[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return good, nil
			}
			return good, err
		}
		c, complete, err := d.read(f[:])
		if err == nil && complete {
			err = apply(n, c)
		}
		if err != nil {
			return good, err
		}
		if complete {
			good = int64(n+1) * frameSize
		}
	}
}

func (l *Ledger) replay(c change) {
	switch c.kind {
	case kindBan4:
		l.v4.put(c.ban)
	case kindBan6:
		l.v6.put(c.ban)
	case kindLift4:
		l.v4.remove(c.ban.prefix)
	case kindLift6:
		l.v6.remove(c.ban.prefix)
	case kindNote:
		l.notes.set(c.id, c.text)
	}
}

// clamp corrects times and forgets notes that no ban refers to.
func (l *Ledger) clamp() {
	now := l.now()
	wanted := map[uint32]bool{}
	l.walk(func(r record) {
		if r.reason == Operator {
			wanted[uint32(r.mark)] = true
		}
		if c := r.clamped(now, l.terms.Max); c != r {
			l.of(r.prefix).put(c)
		}
	})
	l.notes.keep(wanted)
}

// Run writes what the ledger decides, within a second, until ctx ends; then it
// writes the rest. A disk that refuses is asked again; see Problem.
func (l *Ledger) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.store.wake:
			pause(ctx, syncWithin)
		}
		for l.Sync() != nil && ctx.Err() == nil {
			pause(ctx, retryAfter)
		}
	}
	return l.Sync()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Sync puts on the disk what is not there yet, and rotates when it is time.
func (l *Ledger) Sync() error { return l.store.flush(l.snapshotFrames()) }

// Save is Sync for somebody who waits: where the log can be written on, a
// snapshot that is due is left to Run.
func (l *Ledger) Save() error {
	if done, err := l.store.save(); done {
		return err
	}
	return l.Sync()
}

// Problem is why the ledger is not on the disk as it should be; nil is well.
func (l *Ledger) Problem() error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return l.store.problem
}

// Close gives the folder free. It does not sync: Run does at its end.
func (l *Ledger) Close() error { return l.store.close() }

// snapshotFrames yields the frames of everything: notes first, so that none is
// missing where a ban refers to it.
func (l *Ledger) snapshotFrames() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if !yield(l.noteFrames()) {
			return
		}
		var b []byte
		for r := range l.all() {
			if b = appendBan(b[:0], r); !yield(b) {
				return
			}
		}
	}
}

func (l *Ledger) noteFrames() (b []byte) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for id, text := range l.notes.text {
		b = appendNote(b, id, text)
	}
	return b
}
