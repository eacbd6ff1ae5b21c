package harvest

import (
	"fmt"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// A conviction that the canary overturns costs the source nothing: its trust
// stays, and so do the guesses that a directory known to be well denied. What
// it denied since is forgotten.
func TestOverturnedConvictionSpendsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		well int // after so many guesses the directory was seen to be well
		next int // so many more convict, once it is well again
	}{"well before the last": {99, 1}, "well half way": {50, 50}, "well before the first": {0, 100}} {
		s := newScene(t, smtp.New)
		for d := range 3 { // on three days, the first of them a week before the guesses
			s.mails(s.src, fmt.Sprintf("friend%d@example.com", d), smtp.Valid)
			s.now = s.now.Add(24 * time.Hour)
		}
		for i := range 100 {
			if i == c.well {
				s.w.Canary(s.now, "example.com", false, "")
			}
			s.now = s.now.Add(time.Second)
			k, convicted := s.rcpt(fmt.Sprintf("a%d@example.com", i), smtp.Unknown)
			if convicted != (i == 99) {
				t.Fatalf("%s: guess %d: convicted %v by %s", name, i+1, convicted, k.Evidence.Rule)
			}
		}
		s.w.Canary(s.now, "example.com", true, "a known recipient is refused")
		s.w.Overturned(s.now, s.src, "example.com")
		if got := s.w.Tier(s.now, s.src.Addr, smtp.New); got != smtp.Known {
			t.Errorf("%s: the source is %s, want known", name, got)
		}
		s.w.Canary(s.now.Add(time.Second), "example.com", false, "")
		s.now = s.now.Add(time.Second)
		if at, _ := s.guesses("b", 110, time.Second); at != c.next {
			t.Errorf("%s: convicted at the %dth guess after that, want %d", name, at, c.next)
		}
	}
}

// What a canary said comes with the next recipient of its domain, once.
func TestCanaryComesWithTheNextRecipient(t *testing.T) {
	s := newScene(t, smtp.New)
	s.guess(s.src, false)
	s.w.Canary(s.now, "example.com", true, "a known recipient is refused")
	if list := s.w.Alarms(s.now); len(list) != 1 {
		t.Errorf("alarms %v, want that of the directory at once", list)
	}
	other := s.w.Recipient(s.now, s.src, smtp.Recipient{To: "x@example.org", Oracle: smtp.Unknown}, false)
	first, second := s.guess(s.src, false), s.guess(s.src, false)
	if d := first.Directory; other.Directory != nil || d == nil || d.Said != smtp.Unknown || !d.At.Equal(s.now) || first.Say != reply.OracleAway || second.Directory != nil {
		t.Errorf("%+v, then %+v and %+v", other, first, second)
	}
	s.mails(stranger("192.0.2.1"), "anna@example.com", smtp.Valid)
	s.w.Canary(s.now.Add(-time.Minute), "example.com", true, "it was asked before that")
	if a := s.guess(s.src, false); a.Say != "" {
		t.Errorf("it is told %q by what was so before mail was taken", a.Say)
	}
}
