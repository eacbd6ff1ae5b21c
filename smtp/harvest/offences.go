package harvest

import (
	"slices"
	"time"

	"mailweir/smtp/reply"
)

// offences are what few sources have to their name. The lists are capped, the
// oldest first, and hold what the longest window can count.
type offences struct {
	Strikes  []instant `json:"strikes,omitempty"`
	Traps    []hit     `json:"traps,omitempty"`    // distinct
	Foreign  []hit     `json:"foreign,omitempty"`  // distinct domains
	Hot      []hit     `json:"hot,omitempty"`      // local parts that others guess too
	Reports  []hit     `json:"reports,omitempty"`  // distinct reporters of proven complaints
	Refused  []instant `json:"refused,omitempty"`  // recipients
	Sessions []instant `json:"sessions,omitempty"` // refused ones
	Mark     *mark     `json:"mark,omitempty"`     // convicted while away
	Lost     *lost     `json:"lost,omitempty"`
	Slowed   instant   `json:"slowed,omitempty"` // when it was spared a ban
}

// hit is something distinct and when it was last seen.
type hit struct {
	Hash uint64  `json:"h"`
	At   instant `json:"t"`
}

// mark is a conviction that waits for its source to come.
type mark struct {
	Reason reply.Reason `json:"reason"`
	Rule   string       `json:"rule"`
	At     instant      `json:"at"`
}

// markedFor is how long a source that was found out while it was away is
// banned when it comes.
const markedFor = week

// offend returns the offences of s, which has some from now on.
func (w *engine) offend(s *source) *offences {
	if s.offences == nil {
		s.offences = new(offences)
	}
	if s.ring == harmless {
		w.sources.move(s, guilty)
	}
	return s.offences
}

// slowed says whether the source was spared a ban lately, and is told no more
// than to come again.
func (s *source) slowed(now instant) bool {
	return s.offences != nil && s.offences.Slowed != 0 && since(now, s.offences.Slowed) < day
}

// addMoment keeps a moment in a list of at most most.
func addMoment(list *[]instant, now instant, most int) {
	if len(*list) >= most {
		*list = slices.Delete(*list, 0, len(*list)-most+1)
	}
	*list = append(*list, now)
}

// addHit keeps something distinct, or its new moment.
func addHit(list *[]hit, h uint64, now instant, most int) {
	*list = slices.DeleteFunc(*list, func(e hit) bool { return e.Hash == h })
	if len(*list) >= most {
		*list = slices.Delete(*list, 0, len(*list)-most+1)
	}
	*list = append(*list, hit{h, now})
}

func momentsWithin(list []instant, now instant, window instant) (n int) {
	for _, at := range list {
		if since(now, at) < time.Duration(window)*time.Second {
			n++
		}
	}
	return n
}

func hitsWithin(list []hit, now instant, window instant) (n int) {
	for _, e := range list {
		if since(now, e.At) < time.Duration(window)*time.Second {
			n++
		}
	}
	return n
}

// Windows in seconds.
const (
	aMinute = instant(60)
	anHour  = instant(3600)
	aDay    = 24 * anHour
	aWeek   = 7 * aDay
)

// another says whether the source did anything else that is an offence by
// itself: what an innocent whose trap hit was forged did not.
func (s *source) another(now instant) bool {
	o := s.offences
	return s.past.convicted != 0 && since(now, s.past.convicted) < knownFor ||
		o != nil && (momentsWithin(o.Strikes, now, aWeek) > 0 || hitsWithin(o.Foreign, now, aWeek) > 1 ||
			hitsWithin(o.Reports, now, aWeek) > 0 || momentsWithin(o.Refused, now, aWeek) > 0)
}
