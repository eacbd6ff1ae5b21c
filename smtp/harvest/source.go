package harvest

import "time"

// kind is what a recipient turned out to be.
type kind uint8

const (
	unknown kind = iota + 1
	unknownNull
	valid
	validRole
)

const (
	// forget is how long the same unknown recipient does not count again: a
	// mail server retries for five days, and a list is mailed weekly.
	forget = 7 * day

	// maxSeen bounds the recipients remembered of one source. It is above the
	// absolute rule for trusted sources (4 × 300), so that no rule is blinded.
	maxSeen = 2048

	// maxGuesses bounds the guesses kept as evidence of one source.
	maxGuesses = 50
)

// seen is one distinct recipient that a source named: 16 bytes.
type seen struct {
	hash uint64
	at   uint32 // Unix seconds: unknown: when it counted; valid: when it was last named
	kind kind
}

// source is what is remembered of one address or /64.
type source struct {
	key        [16]byte
	prev, next *source // its place in the table's order of idleness
	guilty     bool    // named an unknown recipient
	seen       []seen
	guesses    []string // the newest last
}

// see remembers a recipient. It says whether it is a fresh one: not named
// before, or longer ago than forget.
func (s *source) see(now time.Time, h uint64, k kind) bool {
	at := uint32(now.Unix())
	for i := range s.seen {
		e := &s.seen[i]
		if e.hash != h {
			continue
		}
		old := time.Duration(at-e.at) * time.Second
		if at < e.at { // the clock went back, or lines came out of order
			old = 0
		}
		wasUnknown := e.kind == unknown || e.kind == unknownNull
		isUnknown := k == unknown || k == unknownNull
		if wasUnknown && isUnknown && old < forget {
			if e.kind == unknownNull && k == unknown { // now it weighs more
				e.kind, e.at = k, at
				return true
			}
			return false
		}
		e.kind, e.at = k, at
		return true
	}
	if len(s.seen) >= maxSeen {
		s.drop(at)
	}
	s.seen = append(s.seen, seen{h, at, k})
	return true
}

// drop makes room: what is past remembering goes, else the oldest.
func (s *source) drop(at uint32) {
	kept, oldest := s.seen[:0], 0
	for _, e := range s.seen {
		if at < e.at || at-e.at < uint32(forget/time.Second) {
			kept = append(kept, e)
		}
	}
	s.seen = kept
	if len(s.seen) < maxSeen {
		return
	}
	for i, e := range s.seen {
		if e.at < s.seen[oldest].at {
			oldest = i
		}
	}
	s.seen[oldest] = s.seen[len(s.seen)-1]
	s.seen = s.seen[:len(s.seen)-1]
}

func (s *source) guessed(to string) {
	if len(s.guesses) == maxGuesses {
		copy(s.guesses, s.guesses[1:])
		s.guesses = s.guesses[:maxGuesses-1]
	}
	s.guesses = append(s.guesses, to)
}

// acquit forgets the guesses after a conviction but not which recipients they
// named: the same ones do not convict again.
func (s *source) acquit() {
	for i := range s.seen {
		if e := &s.seen[i]; e.kind == unknown || e.kind == unknownNull {
			e.at -= min(e.at, uint32(day/time.Second)) // out of every window
		}
	}
	s.guesses = nil
}

// counts are the distinct recipients of one window.
type counts struct{ unknown, null, valid, roles int }

func (s *source) count(now time.Time, window time.Duration) (c counts) {
	from := now.Add(-window).Unix()
	for _, e := range s.seen {
		if int64(e.at) <= from {
			continue
		}
		switch e.kind {
		case unknown:
			c.unknown++
		case unknownNull:
			c.null++
		case valid:
			c.valid++
		case validRole:
			c.roles++
		}
	}
	return c
}

// weighted is the number that rules compare: a recipient of the null sender
// weighs a quarter and adds ten at most (bounces and callouts alone never reach
// a rule but their own), and valid ones are taken off.
func (c counts) weighted() float64 {
	return float64(c.unknown) + min(float64(c.null)/4, 10) - float64(min(c.valid, maxCredits))
}

// share is that of the unknown among the distinct recipients, 0 for none.
func (c counts) share() float64 {
	bad := c.unknown + c.null
	if bad == 0 {
		return 0
	}
	return float64(bad) / float64(bad+c.valid+c.roles)
}
