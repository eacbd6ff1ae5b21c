package smtp

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
)

// registry knows the live connections by source, so that those of a banned one
// can be reset at once, and all of them for the drain.
type registry struct {
	mu       sync.Mutex
	bySource map[netip.Prefix]map[*client]struct{}
	draining bool
}

func newRegistry() *registry {
	return &registry{bySource: map[netip.Prefix]map[*client]struct{}{}}
}

// add enters c; false: the server drains and c must not begin.
func (r *registry) add(c *client) bool {
	source, _ := sourceOf(c.peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return false
	}
	set := r.bySource[source]
	if set == nil {
		set = map[*client]struct{}{}
		r.bySource[source] = set
	}
	set[c] = struct{}{}
	return true
}

func (r *registry) remove(c *client) {
	source, _ := sourceOf(c.peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.bySource[source]
	delete(set, c)
	if len(set) == 0 {
		delete(r.bySource, source)
	}
}

// within returns the live connections whose peer lies in p.
func (r *registry) within(p netip.Prefix) []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*client
	collect := func(set map[*client]struct{}) {
		for c := range set {
			if p.Contains(c.peer) {
				found = append(found, c)
			}
		}
	}
	if source, _ := sourceOf(p.Addr()); source.Bits() <= p.Bits() {
		collect(r.bySource[source]) // all of p lies in one source
		return found
	}
	for _, set := range r.bySource {
		collect(set)
	}
	return found
}

// all returns every live connection; with drain, none can be added any more.
func (r *registry) all(drain bool) []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = r.draining || drain
	var found []*client
	for _, set := range r.bySource {
		for c := range set {
			found = append(found, c)
		}
	}
	return found
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, set := range r.bySource {
		n += len(set)
	}
	return n
}

// resetOthers ends the other live connections of the address that a session was
// convicted for; its own ends with the convicting reply. Guard may ban more
// than the address (an IPv6 /64), and ends what is left of that.
func (s *Server) resetOthers(convicted *session) {
	for _, c := range s.live.within(netip.PrefixFrom(convicted.peer, convicted.peer.BitLen())) {
		if c.session != convicted {
			c.reset()
		}
	}
}

// ResetSource ends the live connections of a prefix with a reset instead of an
// orderly close, so that nothing of a banned source lingers in the kernel
// (R-BX-15), and says how many. It is for bans that were made elsewhere.
func (s *Server) ResetSource(p netip.Prefix) int {
	found := s.live.within(p.Masked())
	for _, c := range found {
		c.reset()
	}
	return len(found)
}

// Connected is a source with open connections.
type Connected struct {
	Source netip.Prefix `json:"source"`
	Open   int          `json:"open"`
}

// Connected lists the sources with the most open connections.
func (s *Server) Connected(most int) []Connected {
	s.live.mu.Lock()
	list := make([]Connected, 0, len(s.live.bySource))
	for p, set := range s.live.bySource {
		list = append(list, Connected{p, len(set)})
	}
	s.live.mu.Unlock()
	slices.SortFunc(list, func(a, b Connected) int { return cmp.Or(b.Open-a.Open, a.Source.Compare(b.Source)) })
	return list[:min(most, len(list))]
}
