package record

import (
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
)

// Who would have been banned: sources by their first conviction, the good ones
// marked, nobody that would have been spared anyway.
func TestWould(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	convict := func(peer string, at time.Duration, left smtp.Left, tier smtp.Tier) {
		a := tx(start.Add(at), peer, "x@sender.example", "u1@example.com")
		c := harvest
		c.Left, c.Tier = left, tier
		f.Convicted(ref.New(), a.Facts.Peer, start.Add(at), c, left == smtp.LeftEnforced)
	}
	convict("203.0.113.9", 2*time.Minute, smtp.LeftObserve, smtp.New)
	convict("203.0.113.7", time.Minute, smtp.LeftObserve, smtp.New)
	convict("203.0.113.7", time.Hour, smtp.LeftObserve, smtp.New)
	convict("2001:db8::1", 3*time.Minute, smtp.LeftObserve, smtp.Known)
	convict("2001:db8::2", 4*time.Minute, smtp.LeftObserve, smtp.Known)
	convict("198.51.100.1", time.Minute, smtp.LeftEnforced, smtp.New)
	convict("198.51.100.2", time.Minute, smtp.LeftProtected, smtp.Protected)
	convict("198.51.100.3", time.Minute, smtp.LeftKnownGood, smtp.Trusted)
	convict("198.51.100.4", time.Minute, smtp.LeftDirectory, smtp.New)
	convict("203.0.113.8", -time.Minute, smtp.LeftObserve, smtp.New)
	for i, outcome := range []smtp.Outcome{smtp.Accepted, smtp.Accepted, smtp.Rejected} {
		x := tx(start.Add(time.Duration(i)*time.Second), "203.0.113.9", "x@sender.example", "u1@example.com")
		x.Outcome = outcome
		f.Record(x)
	}
	got, err := f.Would(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		source          string
		times, accepted int
		good            bool
	}
	want := []row{{"203.0.113.7/32", 2, 0, false}, {"203.0.113.9/32", 1, 2, true}, {"2001:db8::/64", 2, 0, true}}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, w := range want {
		g := got[i]
		if (row{g.Source.String(), g.Times, g.Accepted, g.KnownGood}) != w || g.Rule != "unknown_per_hour" || len(g.Guesses) != 2 {
			t.Errorf("row %d is %+v, want %+v", i, g, w)
		}
	}
	if !got[0].First.Equal(start.Add(time.Minute)) || !got[0].Last.Equal(start.Add(time.Hour)) {
		t.Errorf("convicted from %v to %v", got[0].First, got[0].Last)
	}
}
