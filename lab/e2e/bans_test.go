package e2e

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestBansOutliveUs: with every process of ours killed the kernel goes on
// dropping, a ban that is over ends by the kernel's own clock, and after a
// start the rest stands with the ends it had.
func TestBansOutliveUs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start("192.0.2.10:25")
	s.harvest(t, s.attacker, attacker4, edge4)
	s.harvest(t, s.attacker, attacker6, edge6)
	short := netip.MustParseAddr("203.0.113.3")
	if out, err := s.weir.Cmd(t.Context(), "ban", short.String(), "--for", "3s", "--why", "a short one"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made := time.Now()
	before := map[netip.Addr]ban{}
	for _, a := range []netip.Addr{attacker4, attacker6, short} {
		b, ok := s.ban(t, a)
		if !ok {
			t.Fatalf("%s is not banned", a)
		}
		before[a] = b
	}
	s.weir.KillAll()

	if time.Since(made) < 2*time.Second { // else the machine was too slow to look
		if conn, err := s.connect(t, short); !errors.Is(err, errSilent) && time.Since(made) < 3*time.Second {
			t.Errorf("the short ban does not hold: %v %v", conn, err)
		}
	}
	s.mustTimeOut(t, s.attacker, attacker4, edge4, "all killed")
	s.mustTimeOut(t, s.attacker, attacker6, edge6, "all killed")

	// Nobody listens, so that a packet which passes is answered by a reset.
	s.Eventually(patience, "the short ban ends", func() bool {
		_, err := s.connect(t, short)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if after := time.Since(made); after < 3*time.Second {
		t.Errorf("a ban of 3 s ended after %v", after)
	}
	s.mustTimeOut(t, s.attacker, attacker4, edge4, "after the short ban's end")

	s.weir.Start()
	s.mustTimeOut(t, s.attacker, attacker4, edge4, "started again")
	s.mustTimeOut(t, s.attacker, attacker6, edge6, "started again")
	for _, a := range []netip.Addr{attacker4, attacker6} {
		b, ok := s.ban(t, a)
		if !ok || b.Prefix != before[a].Prefix || b.Reason != before[a].Reason || b.Ref != before[a].Ref {
			t.Errorf("after the start: %+v, %v, before: %+v", b, ok, before[a])
		}
		if moved := b.Until.Sub(before[a].Until).Abs(); moved > 2*time.Second {
			t.Errorf("the end of the ban of %s moved by %v", a, moved)
		}
	}
	if _, ok := s.ban(t, short); ok {
		t.Error("the short ban was restored after its end")
	}
}

var errSilent = errors.New("no answer")

// connect tries once, and says errSilent where nothing is heard.
func (s *site) connect(t *testing.T, from netip.Addr) (bool, error) {
	t.Helper()
	silent, err := timesOut(t.Context(), s.attacker, from, edge4)
	if silent {
		return false, errSilent
	}
	return err == nil, err
}

const patience = 20 * time.Second
