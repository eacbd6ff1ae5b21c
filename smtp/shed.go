package smtp

import (
	"sync/atomic"
	"time"

	"mailweir/smtp/reply"
)

const (
	// shedPatience is what a stranger may keep us waiting while places are
	// short. Whoever has something to send has sent it by then; Postfix gives as
	// much under stress.
	shedPatience = 10 * time.Second
	// shedEvery is how often they are looked for.
	shedEvery = time.Second
)

// shedding is when it was last done, in nanoseconds of Unix time.
type shedding struct{ last atomic.Int64 }

func (s *shedding) due(now time.Time) bool {
	last := s.last.Load()
	return now.UnixNano()-last >= int64(shedEvery) && s.last.CompareAndSwap(last, now.UnixNano())
}

// shed ends, while places for strangers are short, the connections of those
// strangers who keep us waiting: five minutes of patience for each command (RFC
// 5321 section 4.5.3.2.7) would let a thousand hosts that say nothing keep all
// new mail out.
func (s *Server) shed(p *Policy) {
	if !s.limits.crowded(p) || !s.shedding.due(s.now()) {
		return
	}
	for _, c := range s.live.all(false) {
		if c.session.isStranger() && c.wire.Stalls(shedPatience) {
			c.wire.Dismiss(c.session.farewell(reply.Overload))
		}
	}
}

// isStranger is for other sessions to ask, while the gate may be at work.
func (s *session) isStranger() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tier.Stranger()
}

// crowded says that less than a tenth of the places for strangers is left.
func (l *limits) crowded(p *Policy) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := room(New, p)
	return l.open >= most-most/10
}
