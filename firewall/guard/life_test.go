package guard

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Somebody with the right to detaches our program: it is put back within a
// second.
func TestDetachedByAThirdParty(t *testing.T) {
	w := newWorld(t)
	pins := pinDir(t)
	g := newRig(t, []Engine{openXDP(t, pins)}, nil)
	w.listen(edge4)
	g.ban("203.0.113.7/32")
	for range 3 {
		links := must(filepath.Glob(pins + "/link_*"))(t)
		if len(links) != 1 {
			t.Fatalf("links %v", links)
		}
		l := must(link.LoadPinnedLink(links[0], nil))(t)
		check(t, l.Detach())
		began := time.Now()
		check(t, l.Close())
		eventually(t, "the program on the interface again", func() bool { return attached(t, "edge0") != 0 })
		t.Logf("mended after %v", time.Since(began))
		if w.reaches("203.0.113.7") {
			t.Error("the banned source gets through")
		}
		if a := g.status().Alarms; len(a) != 0 {
			t.Errorf("alarms %v after it was mended", a)
		}
	}
}

// attached is the id of the XDP program on an interface.
func attached(t testing.TB, iface string) uint32 {
	t.Helper()
	l := must(netlink.LinkByName(iface))(t)
	if x := l.Attrs().Xdp; x != nil && x.Attached {
		return x.ProgId
	}
	return 0
}

// A new interface is stood on; one with a program of somebody else is an alarm
// that names the program, which is let alone, and taken once that is gone.
func TestNewInterfaceAndAStranger(t *testing.T) {
	newWorld(t)
	g := newRig(t, []Engine{openXDP(t, pinDir(t))}, nil)
	add := func(name string) {
		t.Helper()
		check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "peer"}))
		t.Cleanup(func() { netlink.LinkDel(must(netlink.LinkByName(name))(t)) })
	}
	add("edge1")
	addAddr(t, "edge1", "192.0.2.1/24")
	eventually(t, "our program on the new interface", func() bool { return attached(t, "edge1") != 0 })
	if attached(t, "edge1") != attached(t, "edge0") {
		t.Error("what is on the new interface is another program")
	}
	add("edge2")
	p := must(ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "stranger", Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	}))(t)
	defer p.Close()
	theirs := must(link.AttachXDP(link.XDPOptions{Program: p, Interface: must(net.InterfaceByName("edge2"))(t).Index}))(t)
	defer theirs.Close()
	id := attached(t, "edge2")
	addAddr(t, "edge2", "192.0.2.129/25")
	eventually(t, "an alarm that names the stranger", func() bool {
		for _, a := range must(g.client().Alarms(ctx))(t) {
			if a.Name == "engine_xdp" && strings.Contains(a.Text, "edge2") && strings.Contains(a.Text, `"stranger"`) {
				return true
			}
		}
		return false
	})
	if attached(t, "edge2") != id || attached(t, "edge1") == 0 || attached(t, "edge0") == 0 {
		t.Error("the stranger was replaced, or another interface left")
	}
	check(t, theirs.Close())
	eventually(t, "our program in the stranger's place, and no alarm", func() bool {
		return attached(t, "edge2") == attached(t, "edge0") && len(g.status().Alarms) == 0
	})
}

// The real flush of nft, again and again: how long until the bans are in the
// kernel again is measured.
func TestFlushIsMendedWithinASecond(t *testing.T) {
	newWorld(t)
	nft := openNFT(t)
	g := newRig(t, []Engine{nft}, nil)
	const bans = 1000
	if _, wrong := g.s.ban(ctx, orders(0, bans)); wrong != nil {
		t.Fatal(wrong)
	}
	var worst time.Duration
	for range 5 {
		out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput()
		if err != nil {
			t.Fatalf("nft flush ruleset: %v: %s", err, out)
		}
		began := time.Now()
		eventually(t, "all bans in the kernel again", func() bool {
			have, err := nft.Enforcer.Hits(ctx, []netip.Prefix{host(0), host(bans - 1)})
			return err == nil && len(have) == 2 && nft.Enforcer.Intact(ctx) == nil
		})
		worst = max(worst, time.Since(began))
	}
	t.Logf("%d bans mended after %v at the most", bans, worst)
	if worst > 5*time.Second { // a second on a machine that has time
		t.Errorf("mended after %v", worst)
	}
}

// Bans of the last minute are all asked for, the rest by lot.
func TestNewBansAreAllProbed(t *testing.T) {
	needRoot(t)
	f := newFake()
	clock := &setClock{t: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}
	g := newRig(t, one(f), func(c *Config) { c.Now = clock.now })
	if _, wrong := g.s.ban(ctx, orders(0, 20*sampleSize)); wrong != nil {
		t.Fatal(wrong)
	}
	clock.advance(2 * newFor)
	g.ban("203.0.113.7/32")
	g.ban("2001:db8::/64")
	f.with(func() { delete(f.bans, pfx("203.0.113.7/32")); delete(f.bans, pfx("2001:db8::/64")) })
	g.s.mend(ctx)
	eventually(t, "the new bans are back", func() bool { return f.has("203.0.113.7/32") && f.has("2001:db8::/64") })
}

// What another process has switched off, since guard hung, stays off when guard
// goes on.
func TestSwitchedOffByAnother(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	g.ban("203.0.113.7/32")
	check(t, SwitchOff(g.cfg.StateDir, time.Now()))
	eventually(t, "out of the kernel", func() bool { return !f.has("203.0.113.7/32") && g.status().Firewall == "off" })
	must(g.op.Switch(ctx, true))(t)
	if !f.has("203.0.113.7/32") || g.status().Firewall != "on" {
		t.Error("not on again")
	}
	check(t, os.WriteFile(switchPath(g.cfg.StateDir), []byte("{{{"), 0o600))
	g.s.heed()
	if g.s.off.Load() {
		t.Error("a note that cannot be read has switched off a firewall that works")
	}
	check(t, os.Remove(switchPath(g.cfg.StateDir)))
}

// Switched on again it stays on, also when the disk does not give up the note
// that it is off.
func TestSwitchedOnAgainstTheDisk(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	must(g.op.Switch(ctx, false))(t)
	path := switchPath(g.cfg.StateDir)
	note := must(os.ReadFile(path))(t)
	check(t, unix.Mount(path, path, "", unix.MS_BIND, "")) // so that nobody can remove it
	defer unix.Unmount(path, unix.MNT_DETACH)
	c := must(g.op.Switch(ctx, true))(t)
	if len(c.Warnings) == 0 || len(note) == 0 {
		t.Fatal("the note went")
	}
	g.s.heed()
	if g.status().Firewall != "on" {
		t.Error("switched off again by the old note")
	}
}
