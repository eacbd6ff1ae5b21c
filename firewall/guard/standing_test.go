package guard

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"mailweir/firewall"
)

// The gate asks who is banned, where the kernel lets the banned in: guard says
// until when and by which ref, and nothing of who is allowed.
func TestGateAsksGuard(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	c := g.client()
	asked := func(a string) (b firewall.Ban, banned bool) {
		t.Helper()
		eventually(t, "an answer of guard", func() bool {
			var err error
			b, banned, err = c.Standing(context.Background(), netip.MustParseAddr(a))
			return err == nil
		})
		return b, banned
	}
	for _, p := range []string{"203.0.113.0/24", "2001:db8:bad::/48"} {
		must(g.op.Ban(context.Background(), BanRequest{Prefix: netip.MustParsePrefix(p), Why: "a test"}))(t)
	}
	must(g.op.Allow(context.Background(), AllowRequest{Prefix: netip.MustParsePrefix("203.0.113.9/32")}))(t)
	for a, want := range map[string]string{
		"203.0.113.7": "203.0.113.0/24", "2001:db8:bad:1::7": "2001:db8:bad::/48", "203.0.113.9": "", "198.51.100.7": "",
	} {
		b, banned := asked(a)
		if banned != (want != "") || banned && (b.Prefix.String() != want || time.Until(b.Until) < 47*time.Hour) {
			t.Errorf("%s: %+v, banned %v; want %q", a, b, banned, want)
		}
	}
}

// Samples are merged by source and reason, told once, the loudest first, and no
// more of them than fit.
func TestSamplesAreMerged(t *testing.T) {
	var s sampled
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	for range 3 {
		s.add("xdp", []firewall.Sample{{Source: netip.MustParseAddr("2001:db8::7"), Port: 25, Reason: "banned"}}, now)
		s.add("xdp", []firewall.Sample{{Source: netip.MustParseAddr("2001:db8::8"), Port: 587, Reason: "banned"}}, now.Add(time.Second))
	}
	var flood []firewall.Sample
	for i := range 2 * mostSampled {
		flood = append(flood, firewall.Sample{Source: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Reason: "geo"})
	}
	s.add("xdp", flood, now)
	if len(s.merged) != mostSampled {
		t.Errorf("%d sources are remembered, want %d", len(s.merged), mostSampled)
	}
	answer := s.answer()
	if len(answer) > maxAlarms {
		t.Errorf("the answer has %d bytes, more than are read", len(answer))
	}
	var list []Sample
	decode(t, answer, &list)
	want := Sample{Source: netip.MustParseAddr("2001:db8::"), Reason: "banned", Engine: "xdp", Port: 587, Seen: 6, First: now, Last: now.Add(time.Second)}
	if len(list) != mostTold || list[0] != want {
		t.Errorf("%d told, the first %+v; want %d, %+v", len(list), list[0], mostTold, want)
	}
	decode(t, s.answer(), &list)
	if len(list) != 0 {
		t.Errorf("told again: %v", list)
	}
}

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	check(t, json.Unmarshal(b, v))
}

// What the engines count is told by engine, without a look at bans.
func TestCountersByEngine(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	c := must(g.op.Counters(context.Background()))(t)
	if c["fake"].Reasons["banned"] != 3 || len(c) != 1 {
		t.Errorf("counters of %v", c)
	}
}
