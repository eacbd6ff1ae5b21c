package xdp_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/xdp"
)

// TestUpgradeWithOtherLayout: a program of another layout, older or newer, stays
// in force with its bans until the maps of the one that starts are filled. A sender
// of SYNs sees none answered.
func TestUpgradeWithOtherLayout(t *testing.T) {
	l := newLife(t)
	top := l.dir
	l.dir = top + "/v1"
	old := l.open(xdp.Options{})
	l.configure(old)
	list := enginetest.Bans(time.Hour, "192.0.2.7/32", "2001:db8::/64")
	l.do("replace", func() error { return old.Replace(ctx, slices.Values(list)) })
	s := l.Send("192.0.2.7", enginetest.Mail, enginetest.Shape{})
	before := l.program()
	old.Close()
	for i, order := range []string{"configure first", "replace first", "a step back, configure first", "a step back, replace first"} {
		l.dir = fmt.Sprintf("%s/v%d", top, []int{2, 12, 11, 3}[i])
		table := l.open(xdp.Options{})
		steps := []func() error{
			func() error { return table.Configure(ctx, rules) },
			func() error { return table.Replace(ctx, slices.Values(list)) },
		}
		if i%2 == 1 {
			slices.Reverse(steps)
		}
		l.do(order, steps[0])
		if l.program() != before {
			t.Errorf("%s: the old program is gone after half of it", order)
		}
		l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.8/32"), nil) })
		l.do(order, steps[1])
		if l.program() == before {
			t.Errorf("%s: the old program is still there", order)
		}
		before = l.program()
		l.do("intact", func() error { return table.Intact(ctx) })
		if dirs, _ := filepath.Glob(top + "/*"); len(dirs) != 1 {
			t.Errorf("%s: directories %v", order, dirs)
		}
		l.Drops(table, "2001:db8::7", "2001:db8::/64")
		table.Close()
	}
	s.Stop(l.World)
	if n := s.Answered.Load(); n != 0 {
		t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
	// `weir firewall off` of this layout takes out what an older one left.
	l.dir = top + "/v9"
	l.do("remove", func() error { return xdp.Remove(ctx, l.dir) })
	if id := l.program(); id != 0 {
		t.Errorf("program %d is still there", id)
	}
	if dirs, _ := filepath.Glob(top + "/*"); len(dirs) != 0 {
		t.Errorf("directories %v are left", dirs)
	}
}

// Who opens the tables and gives up, since another is at work, leaves that one's
// bans with packets, those that come later too.
func TestOpenedBesideAnother(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	l.open(xdp.Options{}).Close()
	l.do("ban more", func() error {
		return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.8/32", "2001:db8::/64"), nil)
	})
	for src, ban := range map[string]string{"192.0.2.7": "192.0.2.7/32", "192.0.2.8": "192.0.2.8/32", "2001:db8::7": "2001:db8::/64"} {
		l.Drops(table, src, ban)
	}
}

// A table that grows lets no packet through, and loses no hits.
func TestTableGrows(t *testing.T) { // R-BX-15
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	l.do("ban", func() error {
		return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32", "2001:db8::/64"), nil)
	})
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	s := l.Send("192.0.2.7", enginetest.Mail, enginetest.Shape{})
	for i := range 40 {
		var more []firewall.Ban
		for n := range 1000 {
			a := netip.AddrFrom4([4]byte{11, byte(i), byte(n >> 8), byte(n)})
			more = append(more, firewall.Ban{Prefix: netip.PrefixFrom(a, 32), Until: time.Now().Add(time.Hour)})
		}
		l.do("ban more", func() error { return table.Apply(ctx, more, nil) })
	}
	s.Stop(l.World)
	if n := s.Answered.Load(); n != 0 {
		t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
	p := netip.MustParsePrefix("192.0.2.7/32")
	hits, err := table.Hits(ctx, []netip.Prefix{p})
	if err != nil || hits[p].Packets < uint64(s.Sent.Load()) {
		t.Errorf("%d hits of %d SYNs (%v)", hits[p].Packets, s.Sent.Load(), err)
	}
	if n := l.status(table).Bans; n != 2+40*1000 {
		t.Errorf("%d bans", n)
	}
	table.Close()
	table = l.open(xdp.Options{}) // what has grown is adopted
	l.configure(table)
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	l.Drops(table, "2001:db8::7", "2001:db8::/64")
	if n := l.status(table).Bans; n != 2+40*1000 {
		t.Errorf("%d bans after adoption", n)
	}
}

// After a Replace that fails half-way, what the next process opens by the pins is
// what packets meet.
func TestReplaceCutOff(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	before := enginetest.Bans(time.Hour, "198.51.100.7/32")
	l.do("replace", func() error { return table.Replace(ctx, slices.Values(before)) })
	tooMany := enginetest.Bans(time.Hour, "203.0.113.7/32")
	for n := range 20_000 {
		a := netip.AddrFrom4([4]byte{11, byte(n >> 8), byte(n), 0})
		tooMany = append(tooMany, firewall.Ban{Prefix: netip.PrefixFrom(a, 24), Until: time.Now().Add(time.Hour)})
	}
	if err := l.Inside(func() error { return table.Replace(ctx, slices.Values(tooMany)) }); err == nil {
		t.Fatal("more prefixes than there is room for are no error")
	}
	l.Drops(table, "198.51.100.7", "198.51.100.7/32")
	l.Connects("203.0.113.7", enginetest.Mail)
	l.do("replace again", func() error {
		return table.Replace(ctx, slices.Values(enginetest.Bans(time.Hour, "192.0.2.7/32", "192.0.2.8/32")))
	})
	table.Close()
	table = l.open(xdp.Options{})
	l.configure(table)
	if n := l.status(table).Bans; n != 2 {
		t.Errorf("%d bans after adoption, want 2", n)
	}
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	l.do("unban", func() error { return table.Apply(ctx, nil, enginetest.Bans(time.Hour, "192.0.2.7/32")) })
	l.Connects("192.0.2.7", enginetest.Mail)
}

// A process that dies in the middle of an upgrade leaves two generations: what
// runs is what counts.
func TestUpgradeCutOff(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	l.do("ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	table.Close()
	// Died while pinning, and died before the link was updated.
	for _, left := range []string{"gen_7", "gen_8"} {
		if err := os.Mkdir(filepath.Join(l.dir, left), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := passAll(t)
	if err := p.Pin(filepath.Join(l.dir, "gen_8", "prog")); err != nil {
		t.Fatal(err)
	}
	table = l.open(xdp.Options{})
	l.configure(table)
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
	if gens, _ := filepath.Glob(l.dir + "/gen_*"); len(gens) != 1 || filepath.Base(gens[0]) != "gen_9" {
		t.Errorf("generations %v", gens)
	}
}

// Tables of bans that another version has laid out otherwise are not taken over,
// and are no reason to go without the packet program.
func TestTablesOfAnotherLayout(t *testing.T) {
	l := newLife(t)
	table := l.open(xdp.Options{})
	l.configure(table)
	bans := enginetest.Bans(time.Hour, "192.0.2.7/32")
	l.do("replace", func() error { return table.Replace(ctx, slices.Values(bans)) })
	table.Close()
	pins, _ := filepath.Glob(l.dir + "/gen_*/ban4_*")
	if len(pins) != 1 {
		t.Fatalf("tables %v", pins)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1 << 8})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.Remove(pins[0]); err != nil {
		t.Fatal(err)
	}
	if err := other.Pin(pins[0]); err != nil {
		t.Fatal(err)
	}
	table = l.open(xdp.Options{})
	l.configure(table)
	l.do("replace", func() error { return table.Replace(ctx, slices.Values(bans)) })
	l.Drops(table, "192.0.2.7", "192.0.2.7/32")
}
