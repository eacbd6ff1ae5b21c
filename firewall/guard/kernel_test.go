package guard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"

	"mailweir/firewall"
	"mailweir/firewall/nft"
	"mailweir/firewall/xdp"
)

// pinDir is one for this test alone.
func pinDir(t testing.TB) string {
	return filepath.Join("/sys/fs/bpf", fmt.Sprintf("mailweir-guard-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
}

func openXDP(t testing.TB, pins string) Engine {
	t.Helper()
	e := must(xdp.Open(xdp.Options{PinDir: pins, Mode: xdp.Generic}))(t)
	t.Cleanup(func() {
		check(t, e.Close())
		check(t, xdp.Remove(context.Background(), pins))
	})
	return Engine{Name: "xdp", Enforcer: e}
}

func openNFT(t testing.TB) Engine {
	t.Helper()
	e := must(nft.Open(nft.Options{}))(t)
	t.Cleanup(func() {
		check(t, e.Close())
		check(t, nft.Remove(context.Background()))
	})
	return Engine{Name: "nft", Enforcer: e}
}

// reaches says whether from gets a connection to port 25 of the edge.
func (w *world) reaches(from string) (ok bool) {
	target := edge4
	if netip.MustParseAddr(from).Is6() {
		target = edge6
	}
	w.inside(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 300 * time.Millisecond, Control: freebind}
		d.SetMultipathTCP(false)
		c, err := d.Dial("tcp", net.JoinHostPort(target, "25"))
		if ok = err == nil; ok {
			c.Close()
		}
	})
	return ok
}

// An offence becomes dropped packets, whichever engine there is; the operator
// takes it back, somebody flushes it, guard is killed and comes again.
func TestInTheKernel(t *testing.T) { // R-BX-15 to R-BX-18, R-BX-29
	for name, engines := range map[string]func(testing.TB) []Engine{
		"xdp":  func(t testing.TB) []Engine { return []Engine{openXDP(t, pinDir(t))} },
		"nft":  func(t testing.TB) []Engine { return []Engine{openNFT(t)} },
		"both": func(t testing.TB) []Engine { return []Engine{openXDP(t, pinDir(t)), openNFT(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := newRig(t, engines(t), nil)
			l4, l6 := w.listen(edge4), w.listen(edge6)
			if st := g.status(); len(st.Alarms) != 0 {
				t.Fatalf("alarms: %v", st.Alarms)
			}
			_, four := w.visit(l4, "203.0.113.7")
			_, six := w.visit(l6, "2001:db8:bad:1::7")
			for _, c := range []*net.TCPConn{four, six} {
				if r := offend(t, g.client(), c); r.Outcome != Banned {
					t.Fatalf("got %+v", r)
				}
			}
			for from, want := range map[string]bool{
				"203.0.113.7": false, "203.0.113.8": true, "2001:db8:bad:1::99": false, "2001:db8:bad:2::7": true,
			} {
				if got := w.reaches(from); got != want {
					t.Errorf("%s reaches port 25: %v, want %v", from, got, want)
				}
			}
			e := must(g.op.Explain(ctx, netip.MustParseAddr("203.0.113.7")))(t)
			if !e.Banned || e.Bans[0].Packets == 0 {
				t.Errorf("why: %+v, want dropped packets", e)
			}
			if c := must(g.op.Unban(ctx, pfx("203.0.113.7/32")))(t); len(c.Lifted) != 1 || c.Lifted[0].Packets == 0 {
				t.Errorf("unban: %+v, want the packets that were dropped", c)
			}
			if !w.reaches("203.0.113.7") {
				t.Error("still banned after unban")
			}
			if c := must(g.op.Allow(ctx, AllowRequest{Prefix: pfx("2001:db8:bad:1::/64")}))(t); len(c.Lifted) != 1 || c.Lifted[0].Packets == 0 {
				t.Errorf("allow: %+v, want the packets that were dropped", c)
			}
			if !w.reaches("2001:db8:bad:1::99") {
				t.Error("still dropped after allow")
			}
			must(g.op.Switch(ctx, false))(t)
			if !w.reaches("2001:db8:bad:1::7") {
				t.Error("still dropped with the firewall off")
			}
			must(g.op.Switch(ctx, true))(t)
			g.ban("203.0.113.0/28")
			if w.reaches("203.0.113.9") {
				t.Error("not dropped with the firewall on again")
			}
		})
	}
}

// A foreign flush of the whole ruleset is mended within a second.
func TestNFTFlush(t *testing.T) {
	w := newWorld(t)
	g := newRig(t, []Engine{openNFT(t)}, nil)
	w.listen(edge4)
	g.ban("203.0.113.7/32")
	c := must(nftables.New())(t)
	c.FlushRuleset()
	check(t, c.Flush())
	start := time.Now()
	eventually(t, "the ban in the kernel again", func() bool { return !w.reaches("203.0.113.7") })
	t.Logf("mended after %v at most", time.Since(start))
}

// What was banned stays so while guard is away, and a restart takes over.
func TestBansOutliveGuard(t *testing.T) {
	w := newWorld(t)
	pins := pinDir(t)
	g := newRig(t, []Engine{openXDP(t, pins)}, nil)
	w.listen(edge4)
	g.ban("203.0.113.7/32")
	g.end()
	if w.reaches("203.0.113.7") {
		t.Error("the ban ended with guard")
	}
	g.restart([]Engine{openXDP(t, pins)})
	if w.reaches("203.0.113.7") {
		t.Error("the ban ended with the restart")
	}
	if got := g.bans(); len(got) != 1 || got[0].Packets == 0 {
		t.Errorf("bans: %+v, want one with the packets that were dropped", got)
	}
}

// A short ban ends on real time, in the kernel, with guard gone.
func TestBanEndsWithoutGuard(t *testing.T) { // R-BX-18
	w := newWorld(t)
	g := newRig(t, []Engine{openXDP(t, pinDir(t)), openNFT(t)}, nil)
	w.listen(edge4)
	must(g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.7/32"), For: Duration(3 * time.Second), Why: "short"}))(t)
	if w.reaches("203.0.113.7") {
		t.Error("not banned")
	}
	g.end()
	eventually(t, "the end of the ban", func() bool { return w.reaches("203.0.113.7") })
}

// Sources under a list of many bans are found in both engines.
func TestManyBansInTheKernel(t *testing.T) {
	w := newWorld(t)
	g := newRig(t, []Engine{openXDP(t, pinDir(t)), openNFT(t)}, nil)
	w.listen(edge4)
	var orders []firewall.Order
	for i := range 20_000 {
		orders = append(orders, firewall.Order{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32), For: time.Hour})
	}
	orders = append(orders, firewall.Order{Prefix: pfx("203.0.113.0/25"), For: time.Hour}, firewall.Order{Prefix: pfx("203.0.113.5/32"), For: time.Hour})
	if _, wrong := g.s.ban(ctx, orders); wrong != nil {
		t.Fatal(wrong)
	}
	eventually(t, "all bans in both engines", func() bool {
		st := g.status()
		return !slices.ContainsFunc(st.Engines, func(e EngineStatus) bool { return e.Bans != len(orders) || !e.Working })
	})
	if c := must(g.op.Unban(ctx, pfx("203.0.113.5/32")))(t); c.Count != 1 || len(c.Warnings) != 1 {
		t.Errorf("unban: %+v, want a warning of the wider ban", c)
	}
	if w.reaches("203.0.113.5") {
		t.Error("an address left the wider ban when its own was lifted")
	}
}
