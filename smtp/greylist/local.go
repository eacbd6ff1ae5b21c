package greylist

import (
	"context"
	"sync"
	"time"
)

// Local is the store of one machine, in memory, with snapshots on disk. Who
// passed and who has yet to come back are kept apart, so that a flood of first
// contacts can make it forget other first contacts only. It is bounded: the
// ones that came earliest are forgotten first, and of those who wait none that
// may be about to come back: rather is nobody put off.
type Local struct {
	mu      sync.Mutex
	waiting generations
	passed  generations
	dirty   bool
}

// Bounds of a Local made with the zero limit: some 100 MB when full.
const (
	maxWaiting = 1 << 20
	maxPassed  = 1 << 20
)

// spared is for how long a first contact is never forgotten to make room: mail
// servers come again within. Else a flood would have all of them wait for as
// long as it goes on.
const spared = 6 * time.Hour

// NewLocal returns an empty store that keeps at most limit entries of either
// kind; 0: 1<<20.
func NewLocal(limit int) *Local {
	l := &Local{waiting: newGenerations(maxWaiting), passed: newGenerations(maxPassed)}
	if limit > 0 {
		l.waiting, l.passed = newGenerations(limit), newGenerations(limit)
	}
	return l
}

var _ Store = (*Local)(nil)

// moment is Unix time in seconds: there are millions of them.
type moment = uint32

func at(t time.Time) moment { return moment(max(0, t.Unix())) }

// span is an Entry without what the map says that it stands in.
type span struct{ first, last moment }

func (m span) entry(passed bool) Entry {
	return Entry{First: time.Unix(int64(m.first), 0).UTC(), Last: time.Unix(int64(m.last), 0).UTC(), Passed: passed}
}

// Get implements Store.
func (l *Local) Get(_ context.Context, keys []Key) (Entry, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if m, ok := l.passed.get(k); ok {
			return m.entry(true), true, nil
		}
	}
	for _, k := range keys {
		if m, ok := l.waiting.get(k); ok {
			return m.entry(false), true, nil
		}
	}
	return Entry{}, false, nil
}

// Put implements Store. It knows no ttl: what is over is found so when it is
// asked for, and Sweep takes out the rest.
func (l *Local) Put(_ context.Context, keys []Key, e Entry, _ time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = true
	m := span{at(e.First), at(e.Last)}
	for _, k := range keys {
		if e.Passed {
			l.waiting.remove(k)
			l.passed.put(k, m)
			continue
		}
		if !l.waiting.has(k) && l.waiting.full(m.last) {
			return ErrFull
		}
		l.passed.remove(k) // one that was over
		l.waiting.put(k, m)
	}
	return nil
}

// Sweep forgets what is over.
func (l *Local) Sweep(now time.Time, t Terms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting.sweep(func(m span) bool { return m.entry(false).over(now, t) })
	l.passed.sweep(func(m span) bool { return m.entry(true).over(now, t) })
}

// Len is how many keys wait and how many have passed.
func (l *Local) Len() (waiting, passed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting.len(), l.passed.len()
}

// generations is a map that forgets what was put first when it is full: the
// elder half goes at once.
type generations struct {
	half       int
	young, old map[Key]span
	turned     moment // when the young ones began, and so no old one was put later
}

func newGenerations(limit int) generations {
	return generations{half: max(1, limit/2), young: map[Key]span{}}
}

func (g *generations) get(k Key) (span, bool) {
	if m, ok := g.young[k]; ok {
		return m, true
	}
	m, ok := g.old[k]
	return m, ok
}

func (g *generations) has(k Key) bool {
	_, ok := g.get(k)
	return ok
}

// full says whether one more would have those forgotten who are to be spared.
func (g *generations) full(now moment) bool {
	return len(g.young) >= g.half && len(g.old) > 0 && now >= g.turned && time.Duration(now-g.turned)*time.Second < spared
}

func (g *generations) put(k Key, m span) {
	_, young := g.young[k]
	switch _, old := g.old[k]; {
	case young || len(g.young) < g.half:
		delete(g.old, k)
	case old && g.full(m.last):
		g.old[k] = m
		return
	default:
		g.old, g.young, g.turned = g.young, map[Key]span{}, m.last
	}
	g.young[k] = m
}

func (g *generations) remove(k Key) {
	delete(g.young, k)
	delete(g.old, k)
}

func (g *generations) sweep(over func(span) bool) {
	for _, half := range []map[Key]span{g.young, g.old} {
		for k, m := range half {
			if over(m) {
				delete(half, k)
			}
		}
	}
}

func (g *generations) len() int { return len(g.young) + len(g.old) }

// each calls f with everything, what was put last last.
func (g *generations) each(f func(Key, span)) {
	for _, half := range []map[Key]span{g.old, g.young} {
		for k, m := range half {
			f(k, m)
		}
	}
}
