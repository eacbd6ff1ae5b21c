package smtp

import (
	"net/netip"
	"sync"
	"time"

	"mailweir/smtp/reply"
)

// limits counts open and new connections of each source and of its network.
// Memory is bounded by mostSources: past it, sources without an entry are let
// in uncounted, because a flood from everywhere is the kernel's matter and must
// not lock out whoever comes last.
type limits struct {
	mu      sync.Mutex
	open    int // in all
	sources map[netip.Prefix]*visits
	swept   time.Time
}

// visits is what one prefix did of late. The rate is a sliding minute made of
// the running minute and a share of the one before.
type visits struct {
	open   int
	minute time.Time // when the running minute began
	now    int       // new connections in it
	before int       // and in the one before
}

const (
	mostSources = 200_000
	networkWide = 3 // a /24 or /48 may do this many times what one source may
	protectedBy = 5 // and a protected source this many times
)

func newLimits() *limits { return &limits{sources: map[netip.Prefix]*visits{}} }

// sourceOf returns the prefix that counts as one source (an IPv6 host owns its
// /64) and the network around it.
func sourceOf(a netip.Addr) (source, network netip.Prefix) {
	if a.Is4() {
		source, _ = a.Prefix(32)
		network, _ = a.Prefix(24)
		return source, network
	}
	source, _ = a.Prefix(64)
	network, _ = a.Prefix(48)
	return source, network
}

// admit counts a connection of a. The reason is "" when it may go on, and then
// release must be called at its end. In observe mode the caps of sources are
// only told (would), for the caller to record; max_connections holds always.
func (l *limits) admit(now time.Time, a netip.Addr, t Tier, p *Policy) (would, refuse reply.Reason) {
	source, network := sourceOf(a)
	open, fresh := p.PerSource.Open, p.PerSource.NewPerMinute
	if t == Protected {
		open, fresh = open*protectedBy, fresh*protectedBy
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= room(t, p) {
		return reply.Overload, reply.Overload
	}
	l.sweep(now)
	s, n := l.get(source), l.get(network)
	srate, nrate := s.rate(now), n.rate(now)
	switch {
	case s.open >= open || n.open >= open*networkWide:
		would = reply.Concurrency
	case srate >= fresh || nrate >= fresh*networkWide:
		would = reply.Rate
	}
	s.now, n.now = s.now+1, n.now+1
	if would != "" && !p.Observe {
		return would, would
	}
	l.open++
	s.open, n.open = s.open+1, n.open+1
	return would, ""
}

// room is how many connections there may be for one more of tier t: strangers
// leave a tenth to those who are known, or a flood of them, which costs nobody
// more than an IPv6 /32, would keep all mail out.
func room(t Tier, p *Policy) int {
	if t.Stranger() {
		return p.MaxConnections - p.MaxConnections/10
	}
	return p.MaxConnections
}

// half says whether half of all places are taken.
func (l *limits) half(p *Policy) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open > p.MaxConnections/2
}

// release takes back what admit counted as open.
func (l *limits) release(a netip.Addr) {
	source, network := sourceOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	for _, p := range []netip.Prefix{source, network} {
		if v := l.sources[p]; v != nil && v.open > 0 {
			v.open--
		}
	}
}

// get returns the entry of p; when there is no room for one, a throw-away.
func (l *limits) get(p netip.Prefix) *visits {
	v := l.sources[p]
	if v == nil {
		v = &visits{}
		if len(l.sources) < mostSources {
			l.sources[p] = v
		}
	}
	return v
}

// rate is the number of new connections in the last minute, as if those of the
// minute before had come evenly.
func (v *visits) rate(now time.Time) int {
	switch age := now.Sub(v.minute); {
	case age >= 2*time.Minute || age < 0:
		v.minute, v.now, v.before = now, 0, 0
	case age >= time.Minute:
		v.minute, v.now, v.before = v.minute.Add(time.Minute), 0, v.now
	}
	left := time.Minute - now.Sub(v.minute)
	return v.now + int(int64(v.before)*int64(left)/int64(time.Minute))
}

// sweep forgets, once a minute, who has nothing open and was not here lately.
func (l *limits) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for p, v := range l.sources {
		if v.open == 0 && now.Sub(v.minute) >= 2*time.Minute {
			delete(l.sources, p)
		}
	}
}
