package smtp

import (
	"maps"
	"sync"

	"mailweir/smtp/reply"
)

// Stats are the counts since the Server was made.
type Stats struct {
	Open        int    // connections now
	Load        Load   // what is done because of them
	Connections uint64 // accepted
	Outcomes    map[Outcome]uint64
	Reasons     map[reply.Reason]uint64 // of refusals, as spoken
	Spared      map[reply.Reason]uint64 // of those that were only told, since policy observes or spares the source
}

// Load is what is done because of how many connections are open; "" is nothing.
type Load string

// The loads.
const (
	HalfFull Load = "half_full" // strangers wait less at the gate, since they hold a place
	Crowded  Load = "crowded"   // strangers who keep us waiting are put off
	Full     Load = "full"      // all strangers are; the last tenth is for who is known
)

// load says how full it is, under a policy.
func (l *limits) load(p *Policy) Load {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	switch {
	case open >= room(New, p):
		return Full
	case l.crowded(p):
		return Crowded
	case l.half(p):
		return HalfFull
	}
	return ""
}

type counters struct {
	mu sync.Mutex
	Stats
}

func newCounters() *counters {
	return &counters{Stats: Stats{Outcomes: map[Outcome]uint64{}, Reasons: map[reply.Reason]uint64{}, Spared: map[reply.Reason]uint64{}}}
}

func (c *counters) connection() {
	c.mu.Lock()
	c.Connections++
	c.mu.Unlock()
}

func (c *counters) outcome(o Outcome) {
	c.mu.Lock()
	c.Outcomes[o]++
	c.mu.Unlock()
}

func (c *counters) reason(r reply.Reason) {
	c.mu.Lock()
	c.Reasons[r]++
	c.mu.Unlock()
}

func (c *counters) spared(r reply.Reason) {
	c.mu.Lock()
	c.Spared[r]++
	c.mu.Unlock()
}

// Stats returns the counts as they are now.
func (s *Server) Stats() Stats {
	s.stats.mu.Lock()
	st := s.stats.Stats
	st.Outcomes, st.Reasons, st.Spared = maps.Clone(st.Outcomes), maps.Clone(st.Reasons), maps.Clone(st.Spared)
	s.stats.mu.Unlock()
	st.Open, st.Load = s.live.len(), s.limits.load(s.policy.Load())
	return st
}
