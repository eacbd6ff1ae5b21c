package smtp

import (
	"maps"
	"sync"

	"mailweir/smtp/reply"
)

// Stats are the counts since the Server was made.
type Stats struct {
	Open        int    // connections now
	Connections uint64 // accepted
	Outcomes    map[Outcome]uint64
	Reasons     map[reply.Reason]uint64 // of refusals, as spoken (or, in observe mode, as they would have been)
}

type counters struct {
	mu sync.Mutex
	Stats
}

func newCounters() *counters {
	return &counters{Stats: Stats{Outcomes: map[Outcome]uint64{}, Reasons: map[reply.Reason]uint64{}}}
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

// Stats returns the counts as they are now.
func (s *Server) Stats() Stats {
	s.stats.mu.Lock()
	st := s.stats.Stats
	st.Outcomes, st.Reasons = maps.Clone(st.Outcomes), maps.Clone(st.Reasons)
	s.stats.mu.Unlock()
	st.Open = s.live.len()
	return st
}
