package syslog

import (
	"context"
	"errors"
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
	URL string // udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix:///dev/log; "": standard error
	CA  string // file of the CAs that tls trusts; "": those of the system
}

// Options are what an Exporter is made with. Only Header must be given.
type Options struct {
	Header Header
	Target Target
	// Dir is the folder of the messages that the target has not taken yet, made
	// if need be, of this exporter alone; "": they wait in memory. Most is how
	// many bytes of them there are, the oldest go first; 0: 4 GiB.
	Dir  string
	Most int64
	// Report is told when the target cannot be reached (an error), and when it
	// is back (nil).
	Report func(error)
	Clock  func() time.Time
	Stderr io.Writer     // nil: os.Stderr
	Retry  time.Duration // first wait between two tries to connect, doubling up to 64 times that; 0: 0.5 s
}

// maxQueued is how many messages wait in memory at most, for the disk and, where
// there is none or it is full, for the target.
const maxQueued = 8192

// lastWords is how long Run goes on sending after its context has ended.
const lastWords = 2 * time.Second

// Exporter sends messages to one target.
type Exporter struct {
	opts   Options
	to     transport
	now    func() time.Time
	queue  chan *Message
	missed atomic.Uint64 // what did not fit into queue, until fill counts it
	sent   atomic.Uint64
	buffer *buffer
	told   uint64 // of those lost, in LOST messages
	away   bool
}

// New makes an Exporter; nothing is sent, and no folder made, before Run.
func New(o Options) (*Exporter, error) {
	e := &Exporter{opts: o, now: o.Clock, queue: make(chan *Message, maxQueued)}
	if e.now == nil {
		e.now = time.Now
	}
	if o.Retry == 0 {
		e.opts.Retry = 500 * time.Millisecond
	}
	if o.Report == nil {
		e.opts.Report = func(error) {}
	}
	if o.Dir != "" && o.Most == 0 {
		o.Most = 4 << 30
	}
	e.buffer = newBuffer(o.Dir, o.Most)
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
	case e.queue <- m:
	default:
		e.missed.Add(1)
	}
}

// sequence is the sequenceId of a message: from 1 to 2^31-1, then from 1 again.
func sequence(n uint64) uint32 { return uint32((n-1)%math.MaxInt32 + 1) }

// Stats tells how an exporter is.
type Stats struct {
	Target  string `json:"target"`
	Sent    uint64 `json:"sent"`              // messages; one that was sent twice counts twice
	Waiting uint64 `json:"waiting"`           // messages that the target is not known to have
	Bytes   int64  `json:"bytes"`             // on disk
	Most    int64  `json:"max_bytes"`         // of those
	Lost    uint64 `json:"lost"`              // since the start
	Problem string `json:"problem,omitempty"` // of the disk; messages wait in memory
}

// Stats reads the counters.
func (e *Exporter) Stats() Stats {
	s := e.buffer.stats()
	s.Target, s.Sent = e.to.name, e.sent.Load()
	s.Lost += e.missed.Load()
	return s
}

// Run sends until ctx ends, then what still waits, for two more seconds at the
// most. What waits on disk is left to the next Run where there is no connection. It connects when there is
// something to send.
func (e *Exporter) Run(ctx context.Context) {
	end, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, stop) })()
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		e.fill(ctx)
	}()
	e.drain(end, filled)
	<-filled
	e.buffer.close()
}

// fill moves messages from the queue to the buffer until ctx ends, then the
// rest.
func (e *Exporter) fill(ctx context.Context) {
	tick := time.NewTicker(time.Second) // what waited a second survives a power cut
	defer tick.Stop()
	e.buffer.flush() // what an earlier process left
	for {
		select {
		case m := <-e.queue:
			e.put(m)
		case <-tick.C:
			e.buffer.sync()
		case <-ctx.Done():
			for len(e.queue) > 0 {
				e.put(<-e.queue)
			}
			return
		}
	}
}

// put takes m and what is behind it in the queue, and after a loss says so: as
// late as it shows, and behind what was kept.
func (e *Exporter) put(m *Message) {
	const together = 256
	for range together {
		e.append(m)
		select {
		case m = <-e.queue:
			continue
		default:
		}
		break
	}
	if lost := e.buffer.stats().Lost; lost > e.told {
		e.append(&Message{
			Severity: Error, Time: e.now(), ID: "LOST", Text: fmt.Sprintf("%d events were lost on the way to %s", lost-e.told, e.to.name),
			Params: []Param{{"lost", strconv.FormatUint(lost-e.told, 10)}, {"lost_since_start", strconv.FormatUint(lost, 10)}},
		})
		e.told = lost
	}
	e.buffer.flush()
}

func (e *Exporter) append(m *Message) {
	e.buffer.put(e.missed.Swap(0), func(n uint64) []byte { return e.to.write(&e.opts.Header, m, sequence(n)) })
}

// drain sends what is in the buffer until filled is closed and nothing is left,
// or ctx ends.
func (e *Exporter) drain(ctx context.Context, filled <-chan struct{}) {
	wait := e.opts.Retry
	for e.awaitSome(ctx, filled) {
		before := e.buffer.rewind()
		if isClosed(filled) && e.opts.Dir != "" {
			return // on disk it waits as well as here
		}
		err := e.connect(ctx, filled)
		switch {
		case errors.Is(err, errIdle):
			continue
		case ctx.Err() != nil:
			return
		case e.buffer.rewind() > before:
			wait = e.opts.Retry
		}
		e.report(err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2+1)): // edges that lost one collector do not come back as one
			wait = min(2*wait, 64*e.opts.Retry)
		case <-ctx.Done():
		}
	}
}

// awaitSome waits until there is something to send; false when there will be
// nothing.
func (e *Exporter) awaitSome(ctx context.Context, filled <-chan struct{}) bool {
	for e.buffer.stats().Waiting == 0 {
		select {
		case <-e.buffer.more:
		case <-filled:
			return e.buffer.stats().Waiting > 0
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// errIdle says that a target hung up when it had everything.
var errIdle = errors.New("hung up in silence")

// connect sends over one connection, until it breaks, ctx ends, or filled is
// closed and all is sent.
func (e *Exporter) connect(ctx context.Context, filled <-chan struct{}) error {
	l, err := e.to.dial(ctx)
	if err != nil {
		return fmt.Errorf("reach %s: %w", e.to.name, err)
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })() // ends a write that hangs
	var flight flight
	for last := false; ; {
		list, err := e.buffer.take(e.to.batch)
		if err != nil {
			e.report(fmt.Errorf("read what waits for %s: %w", e.to.name, err))
			continue
		}
		if len(list) > 0 {
			if err = e.write(l, list); err != nil {
				return err
			}
			flight = append(flight, mark{l.written(), list[len(list)-1].n + 1})
		}
		flight = flight.landed(l.arrived(), e.arrived)
		switch {
		case len(list) > 0:
			continue
		case last && len(flight) == 0:
			return errIdle
		}
		select {
		case <-e.buffer.more:
		case <-filled:
			filled, last = nil, true
		case <-l.gone:
			if len(flight) == 0 {
				return errIdle
			}
			return fmt.Errorf("%s hung up", e.to.name)
		case <-flight.soon():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *Exporter) write(l *link, list []message) error {
	select {
	case <-l.gone:
		return fmt.Errorf("%s hung up", e.to.name)
	default:
	}
	var b []byte
	for _, m := range list {
		b = e.to.frame(b, m.text)
	}
	if _, err := l.Write(b); err != nil {
		return fmt.Errorf("send to %s: %w", e.to.name, err)
	}
	e.sent.Add(uint64(len(list)))
	return nil
}

// arrived says that the target has all below next.
func (e *Exporter) arrived(next uint64) {
	e.buffer.done(next)
	e.report(nil)
}

// report tells of a change between reached and not reached.
func (e *Exporter) report(err error) {
	if away := err != nil; away != e.away {
		e.away = away
		e.opts.Report(err)
	}
}

// flight is what was written and has perhaps not arrived, in order.
type flight []mark

type mark struct {
	bytes int64  // of the connection, when it has arrived
	next  uint64 // number of the message behind it
}

// landed is what is left when so many bytes have arrived; done is told.
func (f flight) landed(bytes int64, done func(next uint64)) flight {
	n := 0
	for n < len(f) && f[n].bytes <= bytes {
		n++
	}
	if n > 0 {
		done(f[n-1].next)
	}
	return f[n:]
}

// soon is when to look again whether something has arrived.
func (f flight) soon() <-chan time.Time {
	if len(f) == 0 {
		return nil
	}
	return time.After(50 * time.Millisecond)
}
