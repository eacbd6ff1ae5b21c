package syslog

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// Target is where events go.
type Target struct {
	URL string // tcp://HOST:PORT, tls://HOST:PORT, unix:///dev/log; "": standard error
	CA  string // file of the CAs that tls trusts; "": those of the system
}

// Options are what an Exporter is made with. Only Header must be given.
type Options struct {
	Header Header
	Target Target
	// Report is told when the target cannot be reached (an error), and when it
	// is back (nil). It must not call Send.
	Report func(error)
	Clock  func() time.Time
	Stderr io.Writer     // nil: os.Stderr
	Retry  time.Duration // first wait between two tries to connect, doubling up to 64 times that; 0: 0.5 s
}

// maxQueued is how many messages wait for a target at most.
const maxQueued = 8192

// lastWords is how long Run goes on sending after its context has ended.
const lastWords = 2 * time.Second

// Exporter sends messages to one target.
type Exporter struct {
	opts  Options
	to    transport
	now   func() time.Time
	queue chan numbered
	seq   atomic.Uint32
	sent  atomic.Uint64
	lost  atomic.Uint64 // since the start
	told  uint64        // of lost, in LOST events
	away  bool
}

type numbered struct {
	*Message
	seq uint32
}

// New makes an Exporter; nothing is sent before Run.
func New(o Options) (*Exporter, error) {
	e := &Exporter{opts: o, now: o.Clock, queue: make(chan numbered, maxQueued)}
	if e.now == nil {
		e.now = time.Now
	}
	if o.Retry == 0 {
		e.opts.Retry = 500 * time.Millisecond
	}
	if o.Report == nil {
		e.opts.Report = func(error) {}
	}
	if o.Target.URL == "" {
		w := o.Stderr
		if w == nil {
			w = os.Stderr
		}
		e.to = console(w, toJournal(w))
		return e, nil
	}
	var err error
	e.to, err = open(o.Target.URL, o.Target.CA)
	return e, err
}

// Send hands m over and returns at once; m must not be changed afterwards.
func (e *Exporter) Send(m *Message) {
	select {
	case e.queue <- numbered{m, e.next()}:
	default:
		e.lost.Add(1)
	}
}

// next is the next sequenceId: from 1 to 2^31-1, then from 1 again.
func (e *Exporter) next() uint32 {
	for {
		old := e.seq.Load()
		n := old%math.MaxInt32 + 1
		if e.seq.CompareAndSwap(old, n) {
			return n
		}
	}
}

// Stats tells how the exporter is.
type Stats struct {
	Target string `json:"target"`
	Sent   uint64 `json:"sent"`
	Lost   uint64 `json:"lost"`
	Queued int    `json:"queued"`
}

// Stats reads the counters.
func (e *Exporter) Stats() Stats {
	return Stats{Target: e.to.name, Sent: e.sent.Load(), Lost: e.lost.Load(), Queued: len(e.queue)}
}

// Run sends until ctx ends, then for two more seconds what still waits. It
// connects when there is something to send.
func (e *Exporter) Run(ctx context.Context) {
	end, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, stop) })()
	var batch []numbered
	for {
		if batch = e.collect(ctx, batch); len(batch) == 0 {
			return
		}
		w, gone := e.connect(end)
		if w == nil {
			e.lost.Add(uint64(len(batch) + len(e.queue)))
			return
		}
		release := context.AfterFunc(end, func() { w.Close() }) // ends a write that hangs
		batch = e.converse(ctx, w, gone, batch)
		release()
	}
}

// converse sends batch and what follows over one connection, until it breaks
// or ctx has ended and nothing waits. It returns what must be sent again.
func (e *Exporter) converse(ctx context.Context, w io.WriteCloser, gone <-chan struct{}, batch []numbered) []numbered {
	defer w.Close()
	for len(batch) > 0 {
		select {
		case <-gone:
			e.report(fmt.Errorf("%s hung up", e.to.name))
			return batch
		default:
		}
		if err := e.write(w, batch); err != nil {
			e.report(err)
			return batch
		}
		batch = e.collectUnless(ctx, gone, batch[:0])
	}
	return batch
}

// collect waits for a message unless it has some, and takes what is there.
func (e *Exporter) collect(ctx context.Context, batch []numbered) []numbered {
	if len(batch) > 0 {
		return batch
	}
	return e.collectUnless(ctx, nil, batch)
}

// collectUnless returns none when the connection is gone, or when ctx has
// ended and none waits.
func (e *Exporter) collectUnless(ctx context.Context, gone <-chan struct{}, batch []numbered) []numbered {
	select {
	case m := <-e.queue:
		batch = append(batch, m)
	case <-gone:
		return batch
	case <-ctx.Done():
	}
	for len(batch) < e.to.batch {
		select {
		case m := <-e.queue:
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// write sends batch in one write, and behind it the number of those lost.
func (e *Exporter) write(w io.Writer, batch []numbered) error {
	var b []byte
	for _, m := range batch {
		b = e.to.frame(b, &e.opts.Header, m.Message, m.seq)
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("send to %s: %w", e.to.name, err)
	}
	e.sent.Add(uint64(len(batch)))
	e.report(nil)
	lost := e.lost.Load()
	if lost == e.told {
		return nil
	}
	m := Message{
		Severity: Error, Time: e.now(), ID: "LOST", Text: fmt.Sprintf("%d events were lost on the way to %s", lost-e.told, e.to.name),
		Params: []Param{{"lost", strconv.FormatUint(lost-e.told, 10)}, {"lost_since_start", strconv.FormatUint(lost, 10)}},
	}
	if _, err := w.Write(e.to.frame(nil, &e.opts.Header, &m, e.next())); err != nil {
		return nil // the next write finds out
	}
	e.told = lost
	return nil
}

// report tells of a change between reached and not reached.
func (e *Exporter) report(err error) {
	if away := err != nil; away != e.away {
		e.away = away
		e.opts.Report(err)
	}
}

// connect tries until it succeeds or ctx ends (nil).
func (e *Exporter) connect(ctx context.Context) (io.WriteCloser, <-chan struct{}) {
	wait, most := e.opts.Retry, 64*e.opts.Retry
	for {
		w, gone, err := e.to.dial(ctx)
		if err == nil {
			return w, gone
		}
		e.report(fmt.Errorf("reach %s: %w", e.to.name, err))
		jitter := rand.N(wait/2 + 1) // edges that lost one collector do not come back as one
		select {
		case <-time.After(wait/2 + jitter):
			wait = min(2*wait, most)
		case <-ctx.Done():
			return nil, nil
		}
	}
}
