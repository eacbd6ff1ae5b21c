// Package replay judges recorded days again: what would have become of each
// transaction under this configuration, who would have been banned, and when.
//
//	lines ─► in order of time ─► judges (pure) and harvest.Watch (the engine that runs live) ─► changes, bans, alarms
//
// It works from the facts alone. What was decided (checks, score, outcome,
// reason, tier) is not looked at: what became of a transaction is read off the
// replies that were written, and how well a source is known comes from the
// lines before. Its only clock is the records' times, so that the same lines
// always give the same answer, in whatever order they are read.
//
// A fact that was not gathered, because the verdict stood without it, is never
// invented: the transaction keeps what became of it, and the summary says how
// often.
package replay

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/greylist"
	"mailweir/smtp/harvest"
	"mailweir/smtp/reply"
)

// Options are the configuration that lines are judged under.
type Options struct {
	Rules   harvest.Rules
	Chain   smtp.Chain
	Domains map[string]smtp.Chain // in place of Chain for recipients of these domains
	Bans    Bans
	Observe bool // bans are told, and nobody is dropped by them

	Tier   func(netip.Addr) smtp.Tier // what the operator says of a source; nil: everybody is new
	Trap   func(mailbox string) bool  // nil: as recorded
	Served func(domain string) bool   // nil: as recorded
	Limit  func(domain string) int64  // bytes of a message; nil: as recorded
}

// Bans turns convictions into bans, as guard does. Both methods are told the
// time, which never goes back.
type Bans interface {
	// Convict returns the ban of a source; false: somebody protects it. Within
	// its prefix of widest bits nobody good is known; 0: there is somebody.
	Convict(now time.Time, addr netip.Addr, why reply.Reason, r ref.Ref, widest int) (p netip.Prefix, until time.Time, ok bool)
	Banned(now time.Time, addr netip.Addr) bool
}

// Change is a transaction that would have become something else.
type Change struct {
	Ref  string      `json:"ref"`
	Time record.Time `json:"time"`
	Result
	Was Result `json:"was"`
}

// Result is what became of a transaction.
type Result struct {
	Outcome smtp.Outcome `json:"outcome"`
	Reason  reply.Reason `json:"reason"`
}

// Ban is one that would have been made.
type Ban struct {
	Ban      netip.Prefix `json:"ban"`
	Time     record.Time  `json:"time"`
	Until    record.Time  `json:"until"`
	Reason   reply.Reason `json:"reason"`
	Evidence Evidence     `json:"evidence"`
}

// Evidence is what a ban was earned by.
type Evidence struct {
	Ref     string     `json:"ref"` // of the transaction
	Peer    netip.Addr `json:"peer"`
	Rule    string     `json:"rule"`
	Window  string     `json:"window,omitempty"`
	Unknown int        `json:"unknown"`
	Valid   int        `json:"valid"`
	Guesses []string   `json:"guesses,omitempty"`
}

// Alarm is one that would have been raised.
type Alarm struct {
	Alarm  string      `json:"alarm"`
	Time   record.Time `json:"time"`
	Domain string      `json:"domain,omitempty"`
	Detail string      `json:"detail"`
}

// Summary is the last line.
type Summary struct {
	Lines        int `json:"lines"`
	Changed      int `json:"changed"`
	Bans         int `json:"bans"`
	Alarms       int `json:"alarms"`
	MissingFacts int `json:"missing_facts"`
}

// Player takes lines with Add, and plays them with Play. It is used once.
type Player struct {
	o     Options
	watch *harvest.Watch
	list  *greylist.List
	takes []*take
	says  []said
	sum   Summary
	now   time.Time // of the event at hand
	// latest is the time so far: events that harvest was told of one after the
	// other may have times in another order, by a few milliseconds.
	latest time.Time
}

// said is one line of the answer, which comes in order of time.
type said struct {
	at   time.Time
	what any
}

// New returns a Player without lines.
func New(o Options) *Player {
	p := &Player{o: o, list: greylist.New(greylist.NewLocal(0), [16]byte{})}
	p.watch = harvest.New(o.Rules, harvest.Options{Alarm: p.alarm})
	return p
}

// Add takes in a line.
func (p *Player) Add(l *record.Line) {
	p.sum.Lines++
	p.takes = append(p.takes, p.take(l))
}

// Play plays what was added and calls say for each line of the answer, in order
// of time, until that fails.
func (p *Player) Play(say func(any) error) (Summary, error) {
	slices.SortStableFunc(p.takes, func(a, b *take) int {
		return cmp.Or(a.begins().Compare(b.begins()), cmp.Compare(a.name, b.name))
	})
	p.playAll()
	slices.SortStableFunc(p.says, func(a, b said) int { return a.at.Compare(b.at) })
	for _, s := range p.says {
		if err := say(s.what); err != nil {
			return p.sum, err
		}
	}
	return p.sum, nil
}

// playAll plays the events of all transactions in order of time: those of one
// lie among those of others.
func (p *Player) playAll() {
	var q queue
	for i, t := range p.takes {
		for len(q) > 0 && q[0].told.Before(t.begins()) {
			p.step(&q)
		}
		heap.Push(&q, moment{told: t.begins(), at: t.time, order: i, take: t, next: -1})
	}
	for len(q) > 0 {
		p.step(&q)
	}
	p.takes = nil
}

// step plays the next event and puts the one behind it of the same transaction
// into its place.
func (p *Player) step(q *queue) {
	m := &(*q)[0]
	p.now = m.at
	if p.latest.Before(p.now) {
		p.latest = p.now
	}
	t := m.take
	switch {
	case m.next < 0:
		p.begin(t)
	case m.next < len(t.rcpts):
		p.recipient(t, m.next)
	default:
		p.finish(t)
		heap.Pop(q)
		return
	}
	m.next++
	at, told := t.end(), t.told.end
	if m.next < len(t.rcpts) {
		at, told = t.time.Add(t.rcpts[m.next].at), t.rcpts[m.next].told
	}
	m.at = later(at, m.at)
	m.told = later(cmp.Or(told, m.at), m.told)
	heap.Fix(q, 0)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// moment is the next event of a transaction: -1 its beginning, then the
// recipients, then its end.
type moment struct {
	told  time.Time // its place among all events
	at    time.Time // as the record has it
	order int
	take  *take
	next  int
}

type queue []moment

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].told.Compare(q[j].told), cmp.Compare(q[i].order, q[j].order)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(moment)) }
func (q *queue) Pop() any {
	old := *q
	m := old[len(old)-1]
	*q = old[:len(old)-1]
	return m
}

func (p *Player) say(at time.Time, what any) { p.says = append(p.says, said{at, what}) }

func (p *Player) alarm(a harvest.Alarm) {
	p.sum.Alarms++
	p.say(p.now, Alarm{a.Name, record.Time{Time: p.now}, a.Domain, a.Detail})
}
