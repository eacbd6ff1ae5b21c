package record

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
)

// Options are what a Store is made with. Only Dir must be given.
type Options struct {
	Dir     string        // made if missing; nobody else writes there
	Node    string        // this machine's name in the records
	Keep    time.Duration // how long a record is kept; 0: for ever
	MaxSize int64         // bytes of all files in Dir, oldest records first out; 0: 4 GiB, never under 16 MiB
	BanMax  time.Duration // the longest ban, whose evidence is kept Keep longer; 0: 14 days
	Alarms  Alarms        // nil: nobody hears them
	Clock   func() time.Time
}

// Alarms is who hears that something is wrong, and that it is over. Saying the
// same twice must do no harm.
type Alarms interface {
	Alarm(name, detail string)
	Clear(name, detail string)
}

// The alarms of the store.
const (
	AlarmStore   = "records"         // the store cannot be written: records wait, then are lost
	AlarmLost    = "records_lost"    // records were dropped
	AlarmCorrupt = "records_corrupt" // a damaged store was set aside
)

const (
	maxQueued    = 64 << 20 // bytes that may wait for the disk, estimated
	maxBatch     = 1024     // entries appended, and entries committed, at once
	tickEvery    = 250 * time.Millisecond
	announceWait = 100 * time.Millisecond // longest that a reply waits for the journal
	maxSegment   = 4 << 20                // bytes of a journal segment
	minSize      = 16 << 20
)

// Store keeps records and the evidence of convictions in SQLite. Its methods
// can be called from any goroutine.
type Store struct {
	dir    string
	node   string
	now    func() time.Time
	alarms Alarms
	keep   atomic.Int64 // time.Duration
	banMax atomic.Int64 // time.Duration
	max    atomic.Int64 // bytes

	in     chan *entry   // from sessions to the journal
	staged chan []*entry // from the journal to SQLite
	queued atomic.Int64  // estimated bytes between Record and SQLite
	late   atomic.Bool   // the journal stands: nobody waits for it until it moves
	count  counters
	ills   illnesses

	running atomic.Bool
	journal journal // of the goroutine that runs keepJournal
	db      database
}

type counters struct {
	recorded atomic.Uint64 // records committed
	dropped  atomic.Uint64 // for want of room
	unsafe   atomic.Uint64 // refs said before the journal had them
}

var _ smtp.Recorder = (*Store)(nil)

// entry is something on its way to the disk.
type entry struct {
	kind   kind
	tx     smtp.Transaction
	conv   Conviction
	weight int64
	safe   chan struct{} // closed when the journal has it; nil: nobody waits

	line Line   // of tx
	body []byte // JSON of line or conv

	retire string        // path of a segment that can go when all before it is committed
	flush  chan struct{} // closed when all before it is committed
}

// Open returns a Store on o.Dir and takes in what a former run left in its
// journal. It never fails: what is damaged is set aside, and a folder that
// cannot be written is an alarm and tried again. Nothing is written until Run.
func Open(o Options) *Store {
	s := &Store{
		dir: o.Dir, node: o.Node, now: o.Clock, alarms: o.Alarms,
		in: make(chan *entry, 4*maxBatch), staged: make(chan []*entry, 4),
		journal: journal{dir: o.Dir},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.alarms == nil {
		s.alarms = noAlarms{}
	}
	s.ills.alarms = s.alarms
	s.SetLimits(o.Keep, o.BanMax, o.MaxSize)
	s.db = database{dir: o.Dir, now: s.now, alarms: s.alarms}
	s.recover()
	return s
}

type noAlarms struct{}

func (noAlarms) Alarm(string, string) {}
func (noAlarms) Clear(string, string) {}

// SetLimits changes how much is kept; see Options. It takes effect within
// seconds.
func (s *Store) SetLimits(keep, banMax time.Duration, maxSize int64) {
	if maxSize == 0 {
		maxSize = 4 << 30
	}
	if banMax == 0 {
		banMax = 14 * 24 * time.Hour
	}
	s.keep.Store(int64(keep))
	s.banMax.Store(int64(banMax))
	s.max.Store(max(maxSize, minSize))
}

// Announce implements smtp.Recorder. It waits for the disk, but never longer
// than a tenth of a second; a ref that was said before it was safe is counted
// in Stats. The Record with the same ref takes its place.
func (s *Store) Announce(ctx context.Context, t smtp.Transaction) {
	if t.Facts.Ref == 0 {
		return // nothing is said that had to be explained
	}
	e := &entry{kind: announced, tx: t, safe: make(chan struct{})}
	e.own() // the session goes on changing t
	if !s.enqueue(e) || s.late.Load() {
		s.count.unsafe.Add(1)
		return
	}
	timeout := time.NewTimer(announceWait)
	defer timeout.Stop()
	select {
	case <-e.safe:
	case <-ctx.Done(): // the session ends: the journal is not to blame
		s.count.unsafe.Add(1)
	case <-timeout.C:
		s.late.Store(true)
		s.count.unsafe.Add(1)
	}
}

// own makes e independent of the session's slices.
func (e *entry) own() {
	f := &e.tx.Facts
	f.Rcpts, f.Slips = slices.Clone(f.Rcpts), slices.Clone(f.Slips)
	e.tx.Checks = slices.Clone(e.tx.Checks)
}

// Record implements smtp.Recorder. The transaction must not be changed
// afterwards.
func (s *Store) Record(t smtp.Transaction) {
	s.enqueue(&entry{kind: recorded, tx: t})
}

// Convicted implements smtp.Recorder.
func (s *Store) Convicted(r ref.Ref, peer netip.Addr, at time.Time, c smtp.Conviction, enforced bool) {
	s.enqueue(&entry{kind: convicted, conv: newConviction(r, peer, at, c, enforced)})
}

// enqueue hands e over, or drops it when too much waits.
func (s *Store) enqueue(e *entry) bool {
	e.weight = e.estimate()
	if s.queued.Add(e.weight) <= maxQueued {
		select {
		case s.in <- e:
			return true
		default:
		}
	}
	s.queued.Add(-e.weight)
	s.drop(1, "more records come than the disk takes")
	return false
}

// estimate is about what e holds in memory, in bytes.
func (e *entry) estimate() int64 {
	n := 2048 + len(e.tx.Checks)*128
	for i := range e.tx.Facts.Rcpts {
		r := &e.tx.Facts.Rcpts[i]
		n += 512 + 2*len(r.To) + 2*len(r.Reply.Text)
	}
	for _, g := range e.conv.Guesses {
		n += 32 + 2*len(g)
	}
	return int64(n)
}

func (s *Store) drop(n int, why string) {
	s.count.dropped.Add(uint64(n))
	s.alarms.Alarm(AlarmLost, why+"; mail goes on without them")
}

// Stats tells how the store is.
type Stats struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`           // of all files
	MaxBytes int64     `json:"max_bytes"`       //
	Oldest   time.Time `json:"oldest,omitzero"` // record
	Queued   int64     `json:"queued_bytes"`    // waiting for the disk
	Recorded uint64    `json:"recorded"`        // since the start
	Dropped  uint64    `json:"dropped"`         // since the start
	Unsafe   uint64    `json:"unsafe"`          // refs said before they were safe on disk
}

// Stats reads the store's state for weir status.
func (s *Store) Stats(ctx context.Context) Stats {
	st := Stats{
		Path: s.dir, Bytes: folderSize(s.dir), MaxBytes: s.max.Load(), Queued: s.queued.Load(),
		Recorded: s.count.recorded.Load(), Dropped: s.count.dropped.Load(), Unsafe: s.count.unsafe.Load(),
	}
	if id, err := s.db.oldest(ctx); err == nil && id > 0 {
		st.Oldest = timeOfID(id)
	}
	return st
}
