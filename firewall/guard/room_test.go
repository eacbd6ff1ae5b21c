package guard

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/firewall"
	"mailweir/firewall/nft"
)

// boundedFake has room for 80 addresses, and refuses more as a kernel would.
type boundedFake struct{ *fakeEngine }

const fakeRoom = 80

func (boundedFake) Room(p netip.Prefix) (string, int) {
	if p.IsSingleIP() {
		return "addresses", fakeRoom
	}
	return "prefixes", 0
}

func host(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32)
}

func orders(from, to int) (list []firewall.Order) {
	for i := from; i < to; i++ {
		list = append(list, firewall.Order{Prefix: host(i), For: 100 * time.Hour})
	}
	return list
}

// An engine that has no room for all bans has the hottest: who was seen dropped
// elsewhere, then who was banned last; each new one goes in; and what is left out
// is said by name, and comes in when there is room again.
func TestFullEngineHasTheHottest(t *testing.T) {
	needRoot(t)
	clock := &setClock{t: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}
	wideOpen, narrow := newFake(), boundedFake{newFake()}
	wideOpen.packets = func(p netip.Prefix) uint64 {
		if p == host(3) || p == host(7) {
			return 1000
		}
		return 0
	}
	g := newRig(t, []Engine{{Name: "xdp", Enforcer: wideOpen}, {Name: "nft", Enforcer: narrow}}, func(c *Config) { c.Now = clock.now })
	ban := func(from, to int) {
		t.Helper()
		if _, wrong := g.s.ban(ctx, orders(from, to)); wrong != nil {
			t.Fatal(wrong)
		}
		clock.advance(2 * time.Hour)
	}
	settled := func(what string, n int, want ...int) {
		t.Helper()
		eventually(t, what, func() bool {
			return len(narrow.all()) == n && !slices.ContainsFunc(want, func(i int) bool { return !narrow.has(host(i).String()) })
		})
	}
	ban(0, 60)
	settled("all that fit", 60)
	if a := g.status().Alarms; len(a) != 0 {
		t.Errorf("alarms %v though all fit", a)
	}
	ban(60, 100)
	newest := []int{3, 7, 60, 99}
	settled("the hottest seven eighths", 70, newest...)
	g.ban("12.0.0.0/24")
	settled("a prefix, which is no address", 71)
	st := g.status()
	if len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], "the hottest 70 of 100: the other 30 are enforced by xdp only") || st.Engines[1].LeftOut != 30 {
		t.Errorf("alarms %v, left out %d", st.Alarms, st.Engines[1].LeftOut)
	}
	list := must(g.client().Alarms(ctx))(t)
	if len(list) != 1 || list[0].Name != "nft_full" {
		t.Errorf("the mail role hears %v", list)
	}
	ban(100, 110)
	settled("ten new ones, straight in", 81, append(newest, 100, 109)...)
	ban(110, 111)
	settled("a choice made again", 71, append(newest, 110)...)
	g.s.mend(ctx) // whoever is left out is no loss to be mended
	settled("the same", 71, newest...)
	for i := range 50 {
		must(g.op.Unban(ctx, host(i)))(t)
	}
	g.s.mend(ctx)
	settled("all of them, with room again", 62)
	eventually(t, "no alarm", func() bool { return len(g.status().Alarms) == 0 })
}

// A ban that is renewed takes no room of another, and has nothing written anew.
func TestRenewalsTakeNoRoom(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, []Engine{{Name: "nft", Enforcer: boundedFake{f}}}, nil)
	filled := func() (n int) { f.with(func() { n = f.filled }); return n }
	before := filled()
	for range 5 {
		if _, wrong := g.s.ban(ctx, orders(0, 60)); wrong != nil {
			t.Fatal(wrong)
		}
	}
	g.s.engines.settle(ctx)
	if n := filled() - before; n != 0 || len(f.all()) != 60 {
		t.Errorf("60 bans renewed: written anew %d times, %d bans", n, len(f.all()))
	}
	if _, wrong := g.s.ban(ctx, orders(60, 100)); wrong != nil {
		t.Fatal(wrong)
	}
	eventually(t, "the choice of the hottest", func() bool { return filled()-before == 1 && len(f.all()) == 70 })
}

// The same in the kernel: nftables with room for few, beside XDP and alone, after
// a start with more bans than it has room for.
func TestFullNFT(t *testing.T) {
	const room = 64
	small := func(t *testing.T) Engine {
		e := must(nft.Open(nft.Options{MaxBans: room}))(t)
		t.Cleanup(func() { check(t, e.Close()); check(t, nft.Remove(ctx)) })
		return Engine{Name: "nft", Enforcer: e}
	}
	pins := pinDir(t)
	for name, engines := range map[string]func(*testing.T) []Engine{
		"alone":      func(t *testing.T) []Engine { return []Engine{small(t)} },
		"beside xdp": func(t *testing.T) []Engine { return []Engine{openXDP(t, pins), small(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			clock := &setClock{t: time.Now().Add(-4 * time.Hour)}
			g := newRig(t, engines(t), func(c *Config) { c.Now = clock.now })
			w.listen(edge4)
			w.listen(edge6)
			if _, wrong := g.s.ban(ctx, orders(0, 100)); wrong != nil {
				t.Fatal(wrong)
			}
			clock.advance(4 * time.Hour)
			g.ban("203.0.113.7/32")
			g.ban("2001:db8:bad:1::/64")
			g.restart(engines(t))
			if w.reaches("203.0.113.7") || w.reaches("2001:db8:bad:1::7") {
				t.Error("the newest bans are not enforced after a start")
			}
			st := g.status()
			e := st.Engines[len(st.Engines)-1]
			if !e.Working || e.Bans != room-room/8 || e.LeftOut != 102-e.Bans {
				t.Errorf("nft: %+v", e)
			}
			want := "are not enforced in the kernel"
			if name == "beside xdp" {
				want = "are enforced by xdp only"
			}
			if len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], want) {
				t.Errorf("alarms %v, want one with %q", st.Alarms, want)
			}
			for i := range 20 {
				g.ban(host(1000 + i).String())
			}
			g.ban("203.0.113.8/32")
			eventually(t, "the newest in nft, after it was filled anew", func() bool {
				have := must(g.cfg.Engines[len(g.cfg.Engines)-1].Enforcer.Hits(ctx, []netip.Prefix{pfx("203.0.113.8/32")}))(t)
				return len(have) == 1
			})
			if w.reaches("203.0.113.8") {
				t.Error("the newest ban is not enforced")
			}
		})
	}
}

// More prefixes than XDP has room for cost it none of its other bans at a start.
func TestFullXDP(t *testing.T) {
	w := newWorld(t)
	pins := pinDir(t)
	g := newRig(t, []Engine{openXDP(t, pins)}, nil)
	w.listen(edge4)
	var list []firewall.Order
	for i := range 17_000 {
		list = append(list, firewall.Order{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24), For: time.Hour})
	}
	if _, wrong := g.s.ban(ctx, list); wrong != nil {
		t.Fatal(wrong)
	}
	g.ban("203.0.113.7/32")
	g.restart([]Engine{openXDP(t, pins)})
	if w.reaches("203.0.113.7") {
		t.Error("a ban is not enforced because there are many prefixes")
	}
	list2 := must(g.client().Alarms(ctx))(t)
	if len(list2) != 1 || list2[0].Name != "xdp_full" || !strings.Contains(list2[0].Text, "16384 IPv4 prefixes") {
		t.Errorf("alarms %v", list2)
	}
}
