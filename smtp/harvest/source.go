package harvest

import (
	"net/netip"
	"time"
)

// instant is a moment in Unix seconds: windows are hours, and a source has
// thousands of these.
type instant = uint32

func at(t time.Time) instant { return instant(max(0, t.Unix())) }

// since is how long before now a moment was. A moment soon after now (lines came
// out of order) was just now. One later than that is of a clock that was ahead
// and was set right: it is over, or what it began would last until it is there
// again.
func since(now, then instant) time.Duration {
	if then > now && then-now > outOfOrder {
		return time.Duration(now) * time.Second
	}
	return sinceGood(now, then)
}

// sinceGood is since for what speaks for a source: a clock takes nobody's trust.
func sinceGood(now, then instant) time.Duration {
	return time.Duration(now-min(now, then)) * time.Second
}

// outOfOrder is how far ahead of the present a moment may be without the clock
// having been wrong.
const outOfOrder = anHour

// kind is what a recipient turned out to be.
type kind uint8

const (
	unknown kind = iota + 1
	unknownNull
	valid
	validRole
	spent     // unknown, and convicted for or named on and on: not fresh, and counted no more
	delivered // valid, and mail came to it in the hour in which it was last named
)

func (k kind) good() bool { return k == valid || k == validRole || k == delivered }

const (
	// forget is how long the same unknown recipient does not count again after
	// it was last named: a mail server retries for five days, and a monitor
	// never ends. One that is named still after refresh is spent.
	forget  = week
	refresh = 6 * day

	// maxSeen bounds the recipients remembered of one source. It is above the
	// highest rule (always), so that none is blinded.
	maxSeen = 1200

	// maxGuesses bounds the bytes of guesses kept as evidence of one source.
	maxGuesses = 2048
)

// seen is one distinct recipient that a source named, in 12 bytes: 61 bits of
// the hash with the kind below them, and the moment (of an unknown one: when it
// counted; of a valid one: when it was last named).
type seen struct{ low, high, at uint32 }

const kindBits = 7

func newSeen(h uint64, k kind, now instant) seen {
	return seen{uint32(h)&^kindBits | uint32(k), uint32(h >> 32), now}
}

func (e *seen) kind() kind { return kind(e.low & kindBits) }

func (e *seen) is(h uint64) bool {
	return e.low&^kindBits == uint32(h)&^kindBits && e.high == uint32(h>>32)
}

// key is a source or a network: an IPv4 address in its IPv6 form or the first
// bits of an IPv6 one.
type key [16]byte

// sourceKey is the address for IPv4 and the /64 for IPv6, unless engine.keyOf
// knows that several live there.
func sourceKey(a netip.Addr) key {
	b := a.As16()
	if !a.Is4() && !a.Is4In6() {
		clear(b[8:])
	}
	return b
}

func (k key) addr() netip.Addr { return netip.AddrFrom16(k).Unmap() }

func (k key) is4() bool { return netip.AddrFrom16(k).Is4In6() }

// source is what is remembered of one address or /64. A million of them are
// kept: what few have stands in offences.
type source struct {
	key        key
	prev, next uint32  // its place in the table's order of idleness
	linked     instant // when it got that: last, as it was then
	first      instant
	last       instant
	past       past
	ring       uint8
	some       uint8     // how many of few there are
	phase      uint16    // the time of day at which the days of past begin, in steps of phaseStep
	offences   *offences // nil: none
	guesses    *[]byte   // unknown recipients, a line each, the newest last; nil: none
	more       *[]seen   // nil: few has all
	few        [4]seen
}

// seen are the distinct recipients that the source named. Most name few, which
// stand with the source: 128 bytes, two lines of a processor's cache.
func (s *source) seen() []seen {
	if s.more != nil {
		return *s.more
	}
	return s.few[:s.some]
}

// remember sets what seen returns.
func (s *source) remember(list []seen) {
	if s.more != nil {
		*s.more = list
		return
	}
	if len(list) > len(s.few) {
		many := list // the one that is kept
		s.more, s.some = &many, 0
		return
	}
	s.some = uint8(copy(s.few[:], list))
}

// see remembers a recipient. It says whether it is a fresh one: not named
// before, or longer ago than forget.
func (s *source) see(now instant, h uint64, k kind) bool {
	list := s.seen()
	for i := range list {
		e := &list[i]
		if !e.is(h) {
			continue
		}
		if k == valid && e.kind() == delivered && now/anHour == e.at/anHour {
			k = delivered
		}
		if e.again(now, k) {
			if e.kind() == spent || since(now, e.at) >= refresh {
				*e = newSeen(h, spent, now)
			}
			return false
		}
		*e = newSeen(h, k, now)
		return true
	}
	if len(list) >= maxSeen {
		list = s.drop(now)
	}
	if s.more == nil && len(list) < len(s.few) {
		s.few[s.some] = newSeen(h, k, now)
		s.some++
		return true
	}
	s.remember(append(list, newSeen(h, k, now)))
	return true
}

// wroteTo enters a person who got mail.
func (s *source) wroteTo(h uint64) {
	list := s.seen()
	for i := range list {
		if e := &list[i]; e.is(h) {
			if e.kind() == valid {
				e.low = e.low&^kindBits | uint32(delivered)
				s.past.recipient(true)
			}
			return
		}
	}
	s.past.recipient(true) // there was no room to remember him
}

// fresh says whether a source that is known is so by nothing yet that a guesser
// would not do: by mail of the hour in which it first came, or to role addresses.
func (s *source) fresh(now instant) bool { return since(now, s.first) < hour || !s.past.met }

// again says whether a recipient is one that was unknown before and does not
// count again. Named with a sender it weighs more than by the null sender.
func (e *seen) again(now instant, k kind) bool {
	was := e.kind()
	return !was.good() && !k.good() && since(now, e.at) < forget && (was != unknownNull || k != unknown)
}

// drop makes room: what is past remembering goes, else the oldest valid one,
// else the oldest. A guesser cannot wash his guesses away with good addresses,
// and a large sender is not taken for one because his good ones had no room:
// they stay counted. What is left is returned.
func (s *source) drop(now instant) []seen {
	kept := s.seen()[:0]
	for _, e := range s.seen() {
		if since(now, e.at) < forget {
			kept = append(kept, e)
		}
	}
	if len(kept) >= maxSeen {
		out := 0
		for i := range kept {
			e, o := &kept[i], &kept[out]
			if e.kind().good() != o.kind().good() {
				if e.kind().good() {
					out = i
				}
			} else if e.at < o.at {
				out = i
			}
		}
		s.lose(now, &kept[out])
		kept = append(kept[:out], kept[out+1:]...)
	}
	return kept
}

// lost counts the valid recipients of a source that had no room.
type lost struct {
	Hour flow `json:"hour"`
	Day  flow `json:"day"`
}

func (s *source) lose(now instant, e *seen) {
	if !e.kind().good() {
		return
	}
	if s.offences == nil {
		s.offences = new(offences)
	}
	if s.offences.Lost == nil {
		s.offences.Lost = new(lost)
	}
	l := s.offences.Lost
	l.Hour.turn(now, anHour)
	l.Day.turn(now, aDay)
	if l.Day.Now++; since(now, e.at) < hour {
		l.Hour.Now++
	}
}

// acquit takes the guesses out of every window after a conviction, but not out
// of memory: the same ones do not convict again.
func (s *source) acquit() {
	list := s.seen()
	for i := range list {
		if e := &list[i]; e.kind() == unknown || e.kind() == unknownNull {
			e.low = e.low&^kindBits | uint32(spent)
		}
	}
	s.guesses = nil
}

// counts are the distinct recipients of one window.
type counts struct{ unknown, null, valid, roles int }

func (c *counts) add(k kind) {
	switch k {
	case unknown:
		c.unknown++
	case unknownNull:
		c.null++
	case valid, delivered:
		c.valid++
	case validRole:
		c.roles++
	}
}

// tally is what one look at a source's recipients gives.
type tally struct{ hour, day, week counts }

// tally counts what the source named.
func (s *source) tally(now instant) tally {
	t := count(s.seen(), now)
	if s.offences == nil || s.offences.Lost == nil {
		return t
	}
	l := s.offences.Lost
	l.Hour.turn(now, anHour)
	l.Day.turn(now, aDay)
	inDay := int(l.Day.rate(now, aDay))
	t.hour.valid += int(l.Hour.rate(now, anHour))
	t.day.valid += inDay
	t.week.valid += inDay
	return t
}

func count(list []seen, now instant) (t tally) {
	for i := range list {
		e := &list[i]
		age := since(now, e.at)
		if age >= week {
			continue
		}
		t.week.add(e.kind())
		if age < day {
			t.day.add(e.kind())
		}
		if age < hour {
			t.hour.add(e.kind())
		}
	}
	return t
}

func (t *tally) of(window time.Duration) counts {
	switch window {
	case hour:
		return t.hour
	case day:
		return t.day
	}
	return t.week
}

// weighted is the number that the rules with a share compare: a recipient of
// the null sender weighs a quarter and all of them maxNull at most, and valid
// ones are taken off.
func (c counts) weighted() float64 {
	return float64(c.unknown) + min(float64(c.null)/4, maxNull) - float64(min(c.valid, maxCredits))
}

// share is that of the unknown among the distinct recipients, 0 for none.
func (c counts) share() float64 {
	bad := c.unknown + c.null
	if bad == 0 {
		return 0
	}
	return float64(bad) / float64(bad+c.valid+c.roles)
}
