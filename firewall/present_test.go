package firewall

import (
	"net/netip"
	"testing"
	"time"
)

// Nobody bans the operator at work, by hand or by rule, alone or with his
// network; and no session lifts a ban that stands.
func TestOperatorAtWorkIsNotBanned(t *testing.T) {
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	before, wrong := l.Ban([]Order{{Prefix: prefix("198.51.100.0/24"), For: time.Hour}})
	if wrong != nil {
		t.Fatal(wrong)
	}
	l.SetPresent([]netip.Addr{addr("203.0.113.7"), addr("2001:db8:1::7"), addr("198.51.100.9")})
	for _, p := range []string{"203.0.113.7/32", "203.0.113.0/24", "203.0.0.0/8", "2001:db8:1::/64", "2001:db8::/32"} {
		if bans, wrong := l.Ban([]Order{{Prefix: prefix(p)}}); wrong == nil {
			t.Errorf("%s was banned: %v", p, bans)
		}
	}
	for _, a := range []string{"203.0.113.7", "2001:db8:1::7"} {
		if s := l.Convict(addr(a), Harvest, 1); s.New || s.Guard.Guard != GuardSession {
			t.Errorf("%s: %+v, want a veto of %s", a, s, GuardSession)
		}
	}
	if s := l.Convict(addr("2001:db8:1::8"), Harvest, 1); s.Ban.Prefix != prefix("2001:db8:1::8/128") {
		t.Errorf("a neighbour in his /64: %+v, want the address alone", s)
	}
	if _, stands := l.Exactly(before[0].Prefix); !stands {
		t.Error("a session has lifted a ban that stood")
	}
	l.SetPresent(nil)
	if s := l.Convict(addr("203.0.113.7"), Harvest, 1); !s.New {
		t.Errorf("after he left: %+v, want a ban", s)
	}
}
