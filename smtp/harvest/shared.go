package harvest

import (
	"slices"
	"time"
)

const (
	// sharedWithin is the time in which a botnet's guesses meet.
	sharedWithin = instant(600)
	// sharedBy sources a local part is named before it is one that goes round.
	sharedBy = 5
	// sharedParts different ones that go round mark a source: one typo or one
	// removed mailbox is named by many, three are not.
	sharedParts = 3

	maxShared = 1 << 16
)

// namers are the sources that lately named one unknown local part.
type namers struct {
	by []namer // at most sharedBy, the newest last
}

type namer struct {
	key key
	at  instant
}

// shares enters an unknown local part that a stranger named, and marks the
// sources that name the same ones: a botnet that works through one list
// (smtp-filter.md section 4).
func (w *engine) shares(now instant, s *source, local uint64) {
	n, ok := w.shared.get(local)
	if !ok {
		n = new(namers)
		w.shared.put(local, n)
	}
	n.by = slices.DeleteFunc(n.by, func(e namer) bool {
		return e.key == s.key || since(now, e.at) >= time.Duration(sharedWithin)*time.Second
	})
	heated := n.by // who is told that the part goes round: all at first, then who is new
	if len(n.by) == sharedBy {
		n.by = slices.Delete(n.by, 0, 1)
		heated = nil
	}
	n.by = append(n.by, namer{s.key, now})
	if len(n.by) < sharedBy {
		return
	}
	for _, e := range heated {
		if other := w.sources.find(e.key); other != nil {
			w.heat(now, other, local)
		}
	}
	w.heat(now, s, local)
}

// heat notes that others name what s named, and marks it when that is so of
// several local parts.
func (w *engine) heat(now instant, s *source, local uint64) {
	if c := s.tally(now).day; c.valid >= c.unknown {
		return // somebody with acquaintances here, and some typos
	}
	o := w.offend(s)
	addHit(&o.Hot, local, now, sharedParts)
	if hitsWithin(o.Hot, now, sharedWithin) >= sharedParts && o.Mark == nil {
		w.mark(now, s, harvestReason, RuleShared)
	}
}
