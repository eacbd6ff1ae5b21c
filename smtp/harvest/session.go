package harvest

import (
	"cmp"
	"slices"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
)

const (
	// slowFrom unknown recipients of a session make its answers slow.
	slowFrom = 3
	// slowMost bounds how long an answer is held back, in steps of Rules.Slow:
	// RFC 5321 section 4.5.3.2 has clients wait five minutes for one.
	slowMost = 8

	// A session is closed at closeUnknown unknown recipients and no valid one,
	// or above closeAll of which fewer than half are valid.
	closeUnknown = 10
	closeAll     = 10

	maxPersons = 100 // of a message that are remembered until it came

	maxSessions   = 1 << 16
	maxOfSession  = 40 // from there on a recipient that exists counts each time it is named
	sessionsAfter = 24 * time.Hour
)

// visit is what one session named so far.
type visit struct {
	first   [4]uint64 // the first distinct recipients
	more    []uint64  // and those behind them
	all     int       // and how many there were
	unknown int
	last    instant
	struck  bool // was closed, and counts as one strike however long it goes on
	refused bool // counts as one refused session
	message message
}

// message is what a session named for the message under way.
type message struct {
	domain  *domain  // of the last recipient that exists
	persons []uint64 // who exist, and are no role
	taken   []uint64 // of whom nobody could say anything
	takes   bool     // some recipient was taken
}

// sessionOf is the session of an event; without a name it is the transaction.
func sessionOf(src *smtp.Source) ref.Ref { return cmp.Or(src.Session, src.Ref) }

// over ends the message under way, and returns what its session named for it.
func (w *engine) over(src *smtp.Source) (m message) {
	if v, ok := w.visits.get(sessionOf(src)); ok {
		m = v.message
		v.message = message{persons: m.persons[:0], taken: m.taken[:0]}
	}
	return m
}

// visit returns the session of an event.
func (w *engine) visit(now instant, src *smtp.Source) *visit {
	id := sessionOf(src)
	if id == 0 {
		return &visit{}
	}
	v, ok := w.visits.get(id)
	if !ok || since(now, v.last) >= sessionsAfter {
		v = w.newVisit()
		w.visits.put(id, v)
	}
	v.last = max(v.last, now)
	return v
}

// visitOf is the session of an event, which is looked up once.
func (w *engine) visitOf(e *event) *visit {
	if e.visit == nil {
		e.visit = w.visit(e.now, &e.src)
	}
	return e.visit
}

// newVisit takes one of those that are over, or of many that are made at once:
// there is one for each session.
func (w *engine) newVisit() *visit {
	if len(w.fresh) == 0 {
		many := make([]visit, 128)
		for i := range many {
			w.fresh = append(w.fresh, &many[i])
		}
	}
	n := len(w.fresh) - 1
	v := w.fresh[n]
	w.fresh = w.fresh[:n]
	return v
}

// again keeps a session that is forgotten for one to come.
func (w *engine) again(v *visit) {
	*v = visit{more: v.more[:0], message: message{persons: v.message.persons[:0], taken: v.message.taken[:0]}}
	w.fresh = append(w.fresh, v)
}

// names takes in a recipient of the session; an unknown one is fresh.
func (v *visit) names(h uint64, k kind) {
	n := min(v.all, len(v.first))
	if slices.Contains(v.first[:n], h) || slices.Contains(v.more, h) {
		return
	}
	switch {
	case n < len(v.first):
		v.first[n] = h
	case len(v.first)+len(v.more) < maxOfSession:
		v.more = append(v.more, h)
	}
	v.all++
	if !k.good() {
		v.unknown++
	}
}

// wait is how long the answer to an unknown recipient is held back.
func (v *visit) wait(step time.Duration) time.Duration {
	return step * time.Duration(min(slowMost, max(0, v.unknown-slowFrom+1)))
}

// guessing says whether the session is to be closed.
func (v *visit) guessing() bool {
	good := v.all - v.unknown
	return v.all > closeAll && 2*good < v.all || v.unknown >= closeUnknown && good == 0
}

type visits = recent[ref.Ref, *visit]
