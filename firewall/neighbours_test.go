package firewall

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

type hands struct{ t time.Time }

func neighbourhood(t *testing.T) (*Ledger, *hands) {
	t.Helper()
	c := &hands{time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	return NewLedger(Terms{}, func() time.Time { return c.t }), c
}

// convict convicts addresses one after the other and returns the last prefix.
func convict(t *testing.T, l *Ledger, widest int, format string, n int) (last netip.Prefix) {
	t.Helper()
	for i := range n {
		s := l.ConvictNetwork(netip.MustParseAddr(fmt.Sprintf(format, i+1)), Harvest, 1, widest)
		if last = s.Ban.Prefix; s.New && s.Ban.Until.Sub(s.Ban.Since) != 48*time.Hour {
			t.Errorf("%v lasts %v", last, s.Ban.Until.Sub(s.Ban.Since))
		}
	}
	return last
}

func TestNeighboursWiden(t *testing.T) {
	for _, c := range []struct {
		name   string
		format string
		n      int
		widest int
		want   string
	}{
		{"four hosts of a /24", "198.51.100.%d", 4, 24, "198.51.100.4/32"},
		{"five hosts of a /24", "198.51.100.%d", 5, 24, "198.51.100.0/24"},
		{"somebody good in the /24", "198.51.100.%d", 20, 0, "198.51.100.20/32"},
		{"three /64 of a /56", "2001:db8:0:%x::1", 3, 48, "2001:db8:0:3::/64"},
		{"four /64 of a /56", "2001:db8:0:%x::1", 4, 48, "2001:db8::/56"},
		{"somebody good in the /56", "2001:db8:0:%x::1", 9, 0, "2001:db8:0:9::/64"},
		{"hosts of one /64", "2001:db8::%x", 9, 48, "2001:db8::/64"},
		{"somebody good in the /64", "2001:db8::%x", 9, 128, "2001:db8::9/128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, _ := neighbourhood(t)
			if got := convict(t, l, c.widest, c.format, c.n); got.String() != c.want {
				t.Errorf("banned %v, want %v", got, c.want)
			}
		})
	}
}

func TestFourBlocksWidenToTheSlash48(t *testing.T) {
	for widest, want := range map[int]string{48: "2001:db8::/48", 56: "2001:db8:0:400::/56"} {
		l, _ := neighbourhood(t)
		var last netip.Prefix
		for block := range 4 {
			last = convict(t, l, widest, fmt.Sprintf("2001:db8:0:%x%%02x::1", block+1), 4)
		}
		if last.String() != want {
			t.Errorf("with nobody good known in the /%d: banned %v, want %v", widest, last, want)
		}
	}
}

// The good-neighbour veto: whatever a guard protects, an allow entry too, is in
// no widened ban.
func TestGuardedNeighbourStopsWidening(t *testing.T) {
	l, _ := neighbourhood(t)
	l.SetGuards(NewGuards([]Guarded{
		{GuardAllow, netip.MustParsePrefix("198.51.100.200/32")}, {GuardBackend, netip.MustParsePrefix("2001:db8:0:ff::9/128")},
	}))
	if got := convict(t, l, 24, "198.51.100.%d", 9); got.Bits() != 32 {
		t.Errorf("banned %v around an allow entry", got)
	}
	if got := convict(t, l, 48, "2001:db8:0:%x::1", 9); got.Bits() != 64 {
		t.Errorf("banned %v around a backend", got)
	}
}

func TestOnlyStandingAutomaticBansWiden(t *testing.T) {
	l, c := neighbourhood(t)
	convict(t, l, 24, "198.51.100.%d", 4)
	c.t = c.t.Add(49 * time.Hour)
	if got := convict(t, l, 24, "198.51.100.10%d", 1); got.Bits() != 32 {
		t.Errorf("bans that ended widen to %v", got)
	}
	for i := range 9 {
		p := netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", i+1))
		if _, wrong := l.Ban([]Order{{Prefix: p, Why: "test"}}); wrong != nil {
			t.Fatal(wrong)
		}
	}
	if got := convict(t, l, 24, "203.0.113.10%d", 1); got.Bits() != 32 {
		t.Errorf("an operator's bans widen to %v", got)
	}
}

// Above 200 bans a minute new ones last an hour.
func TestBansInAHurryAreShort(t *testing.T) {
	l, c := neighbourhood(t)
	long, short := 0, 0
	for i := range 300 {
		c.t = c.t.Add(100 * time.Millisecond)
		s := l.ConvictNetwork(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), Harvest, 1, 0)
		switch s.Ban.Until.Sub(s.Ban.Since) {
		case 48 * time.Hour:
			long++
		case time.Hour:
			short++
		}
	}
	if !l.Hurried() {
		t.Error("nobody hears that bans are cut short")
	}
	if long != 200 || short != 100 {
		t.Errorf("%d bans of two days and %d of an hour, want 200 and 100", long, short)
	}
	c.t = c.t.Add(59 * time.Second)
	if !l.Hurried() {
		t.Error("the alarm ends within the minute")
	}
	c.t = c.t.Add(2 * time.Second)
	if l.Hurried() {
		t.Error("the alarm stays when it is calm")
	}
	c.t = c.t.Add(time.Minute)
	if s := l.ConvictNetwork(netip.MustParseAddr("203.0.113.7"), Harvest, 1, 0); s.Ban.Until.Sub(s.Ban.Since) != 48*time.Hour {
		t.Errorf("a ban in peace lasts %v", s.Ban.Until.Sub(s.Ban.Since))
	}
}
