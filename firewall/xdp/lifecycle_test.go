package xdp_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/xdp"
)

var (
	ctx   = context.Background()
	rules = firewall.Rules{Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}}
)

// life is a World with a directory of pins that is taken out at the end.
type life struct {
	*enginetest.World
	t   *testing.T
	dir string
}

func newLife(t *testing.T) *life {
	t.Helper()
	l := &life{enginetest.NewWorld(t), t, enginetest.PinDir(t)}
	t.Cleanup(func() { l.do("clean up", func() error { return xdp.Remove(ctx, l.dir) }) })
	return l
}

func (l *life) do(what string, f func() error) {
	l.t.Helper()
	if err := l.Inside(f); err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

func (l *life) open(opt xdp.Options) (table *xdp.Table) {
	l.t.Helper()
	opt.PinDir = l.dir
	l.do("open", func() (err error) { table, err = xdp.Open(opt); return err })
	l.t.Cleanup(func() { table.Close() })
	return table
}

func (l *life) configure(t *xdp.Table) {
	l.t.Helper()
	l.do("configure", func() error { return t.Configure(ctx, rules) })
}

func (l *life) status(t *xdp.Table) (s firewall.Status) {
	l.t.Helper()
	l.do("status", func() (err error) { s, err = t.Status(ctx); return err })
	return s
}

// program is the id of the XDP program on the interface.
func (l *life) program() (id uint32) {
	l.t.Helper()
	l.do("look at the interface", func() error {
		i, err := netlink.LinkByName(enginetest.Interface)
		if err == nil && i.Attrs().Xdp != nil {
			id = i.Attrs().Xdp.ProgId
		}
		return err
	})
	return id
}

// passAll is a program of somebody else.
func passAll(t testing.TB) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "stranger", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestStatusSaysModeAndWhy(t *testing.T) {
	for mode, want := range map[xdp.Mode]string{xdp.Auto: "native", xdp.Native: "native", xdp.Generic: "generic"} {
		l := newLife(t)
		table := l.open(xdp.Options{Mode: mode})
		l.configure(table)
		s := l.status(table)
		if len(s.Interfaces) != 1 || s.Interfaces[0].Mode != want || s.Interfaces[0].Note != "" {
			t.Errorf("asked for %s: %+v", mode, s.Interfaces)
		}
		if len(s.Problems) > 0 {
			t.Errorf("asked for %s: %v", mode, s.Problems)
		}
	}
}

// A loopback interface has no native XDP: auto says so and goes on, native is
// an error, and the other interface is stood on all the same.
func TestLadder(t *testing.T) {
	l := newLife(t)
	withLo := rules
	withLo.Interfaces = []string{"lo", enginetest.Interface}
	table := l.open(xdp.Options{})
	l.do("configure", func() error { return table.Configure(ctx, withLo) })
	lo := l.status(table).Interfaces[0]
	if lo.Mode != "generic" || !strings.Contains(lo.Note, "native") {
		t.Errorf("lo: %+v", lo)
	}
	l.do("remove", func() error { return table.Remove(ctx) })
	table = l.open(xdp.Options{Mode: xdp.Native})
	err := l.Inside(func() error { return table.Configure(ctx, withLo) })
	if err == nil || !strings.Contains(err.Error(), "interface lo") {
		t.Errorf("native on lo: %v", err)
	}
	s := l.status(table)
	if s.Interfaces[0].Mode != "" || s.Interfaces[1].Mode != "native" {
		t.Errorf("native on lo: %+v", s.Interfaces)
	}
	l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
}

// Another mode in the file takes effect at the next start.
func TestModeChanges(t *testing.T) {
	l := newLife(t)
	for _, mode := range []xdp.Mode{xdp.Native, xdp.Generic, xdp.Auto} {
		table := l.open(xdp.Options{Mode: mode})
		l.configure(table)
		i := l.status(table).Interfaces[0]
		if mode == xdp.Auto {
			// What stands is kept: changing it would let packets through.
			if i.Mode != "generic" || i.Note == "" {
				t.Errorf("auto after generic: %+v", i)
			}
		} else if i.Mode != string(mode) {
			t.Errorf("asked for %s: %+v", mode, i)
		}
		table.Close()
	}
}

// R-MC-01: a stranger's program is named, never taken for ours, never replaced.
func TestForeignProgram(t *testing.T) {
	l := newLife(t)
	var stranger link.Link
	l.do("attach a stranger", func() (err error) {
		i, err := netlink.LinkByName(enginetest.Interface)
		if err != nil {
			return err
		}
		stranger, err = link.AttachXDP(link.XDPOptions{Program: passAll(t), Interface: i.Attrs().Index})
		return err
	})
	defer stranger.Close()
	id := l.program()
	table := l.open(xdp.Options{})
	err := l.Inside(func() error { return table.Configure(ctx, rules) })
	var foreign *xdp.ForeignError
	if !errors.As(err, &foreign) || uint32(foreign.ID) != id || foreign.Name != "stranger" {
		t.Fatalf("configure: %v", err)
	}
	for _, part := range []string{enginetest.Interface, `"stranger"`, fmt.Sprint(id), "firewall.interfaces"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if err := l.Inside(func() error { return table.Intact(ctx) }); !errors.As(err, &foreign) {
		t.Errorf("intact: %v", err)
	}
	s := l.status(table)
	if i := s.Interfaces[0]; i.Mode != "" || !strings.Contains(i.Note, "stranger") || len(s.Problems) == 0 {
		t.Errorf("status: %+v", s)
	}
	l.do("remove", func() error { return xdp.Remove(ctx, l.dir) })
	if l.program() != id {
		t.Error("Remove took the stranger's program out")
	}
	stranger.Close()
	l.configure(table)
	l.do("intact", func() error { return table.Intact(ctx) })
}

// Two Mailweirs do not take each other's program for theirs.
func TestAnotherMailweir(t *testing.T) {
	l := newLife(t)
	first := l.open(xdp.Options{})
	l.configure(first)
	id := l.program()
	other := enginetest.PinDir(t)
	l.do("open another", func() error {
		table, err := xdp.Open(xdp.Options{PinDir: other})
		if err != nil {
			return err
		}
		defer table.Close()
		if err := table.Configure(ctx, rules); err == nil || !strings.Contains(err.Error(), "another Mailweir") {
			t.Errorf("configure: %v", err)
		}
		return xdp.Remove(ctx, other)
	})
	if l.program() != id {
		t.Error("the other one has replaced our program")
	}
}

// An interface that goes and comes back is reported and stood on again.
func TestInterfaceGoneAndBack(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	l.Unplug()
	err := l.Inside(func() error { return table.Intact(ctx) })
	if err == nil || !strings.Contains(err.Error(), "interface edge is gone") {
		t.Errorf("intact: %v", err)
	}
	if i := l.status(table).Interfaces[0]; i.Mode != "" || !strings.Contains(i.Note, "gone") {
		t.Errorf("status: %+v", i)
	}
	if err := l.Inside(func() error { return table.Configure(ctx, rules) }); err == nil {
		t.Error("configure on an interface that is gone: no error")
	}
	l.Plug()
	if err := l.Inside(func() error { return table.Intact(ctx) }); err == nil {
		t.Error("intact before anybody stood on the new interface")
	}
	l.configure(table)
	l.do("intact", func() error { return table.Intact(ctx) })
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	if links, err := filepath.Glob(l.dir + "/link_*"); len(links) != 1 {
		t.Errorf("links %v (%v): that of the old interface was left", links, err)
	}
}

// An interface that leaves the rules is left.
func TestInterfaceLeavesTheRules(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	l.do("configure", func() error { return table.Configure(ctx, firewall.Rules{Ports: rules.Ports}) })
	if id := l.program(); id != 0 {
		t.Errorf("program %d is still there", id)
	}
}

// Somebody removes our pins while we run: noticed, and pinned again.
func TestPinsRemoved(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	id := l.program()
	if err := os.RemoveAll(l.dir); err != nil {
		t.Fatal(err)
	}
	if err := l.Inside(func() error { return table.Intact(ctx) }); err == nil {
		t.Error("intact without pins")
	}
	l.configure(table)
	l.do("intact", func() error { return table.Intact(ctx) })
	if l.program() != id {
		t.Error("the program was replaced for nothing")
	}
	table.Close()
	table = l.open(xdp.Options{})
	l.configure(table)
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
}

// `weir firewall off` finds our program also when its pins are gone and
// somebody holds it.
func TestRemoveWithoutPins(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	if err := os.RemoveAll(l.dir); err != nil {
		t.Fatal(err)
	}
	l.do("remove", func() error { return xdp.Remove(ctx, l.dir) })
	if id := l.program(); id != 0 {
		t.Errorf("program %d is still there", id)
	}
}

// The first drop is stamped by the kernel, between the ban and now.
func TestFirstDrop(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	before := time.Now()
	l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	p := netip.MustParsePrefix("192.0.2.7/32")
	hits, err := table.Hits(ctx, []netip.Prefix{p})
	if err != nil {
		t.Fatal(err)
	}
	first := hits[p].First
	if first.Before(before.Add(-time.Millisecond)) || first.After(time.Now().Add(time.Millisecond)) {
		t.Errorf("first drop at %s, the ban at %s", first, before)
	}
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	again, err := table.Hits(ctx, []netip.Prefix{p})
	if err != nil || again[p].First.Sub(first).Abs() > time.Millisecond {
		t.Errorf("first drop was at %s and is at %s (%v)", first, again[p].First, err)
	}
}

// Ends are in the clock that Options give.
func TestClock(t *testing.T) {
	l := newLife(t)
	clock := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	table := l.open(xdp.Options{Clock: func() time.Time { return clock }})
	l.configure(table)
	p := netip.MustParsePrefix("192.0.2.7/32")
	l.do("ban", func() error {
		return table.Apply(ctx, []firewall.Ban{{Prefix: p, Until: clock.Add(time.Hour)}}, nil)
	})
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	l.do("ban again, over", func() error {
		return table.Apply(ctx, []firewall.Ban{{Prefix: p, Until: clock}}, nil)
	})
	l.Connects("192.0.2.7", enginetest.Mail)
}

func TestClosed(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if err := table.Configure(ctx, rules); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("configure: %v", err)
	}
	if err := table.Apply(ctx, nil, nil); err == nil {
		t.Error("apply: no error")
	}
	if err := table.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestTooManyAllowEntries(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	many := rules
	for i := range 4097 {
		many.Allow = append(many.Allow, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32))
	}
	err := l.Inside(func() error { return table.Configure(ctx, many) })
	if err == nil || !strings.Contains(err.Error(), "4096") {
		t.Errorf("configure: %v", err)
	}
	many.Allow = many.Allow[:4096]
	for range 3 { // each generation of the map in turn
		l.do("configure", func() error { return table.Configure(ctx, many) })
	}
}
