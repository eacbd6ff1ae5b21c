package xdp

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"mailweir/bpf"
	"mailweir/firewall"
	"mailweir/firewall/enginetest"
)

// A table that is filled from another one has, whatever happens to that one
// meanwhile, what it has: in every order of bans, renewals, pardons and copying,
// so near to full that bans have to be moved.
func TestFillingAgreesWithTheTable(t *testing.T) { // R-BX-15
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes maps in the kernel")
	}
	for _, v6 := range []bool{false, true} {
		for range 20 {
			seed := rand.Uint64()
			fillFromChanging(t, v6, seed)
			if t.Failed() {
				t.Fatalf("IPv6 %v, seed %d", v6, seed)
			}
		}
	}
}

func fillFromChanging(t *testing.T, v6 bool, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	table, err := bpf.MakeBans(v6, bpf.MinBans, bpf.NewHash())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	moves := 0
	table.Live = func() { moves++ }
	s := &singles{v6: v6, table: table}
	p := func() netip.Prefix {
		n := r.IntN(table.Capacity() * 9 / 8)
		if v6 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(n >> 8), byte(n)}), 64)
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	}
	change := func() {
		if k := bpf.KeyOf(p()); r.IntN(8) > 0 {
			if _, ok := s.table.Put(k, 1+r.Uint32N(1000), 0); ok {
				_, end, _ := s.table.Find(k)
				s.next.put(k, end)
			}
		} else if err := s.remove([]netip.Prefix{k.Prefix(v6)}); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 * table.Capacity() {
		change()
	}
	f := &filling{old: table}
	if f.next, err = bpf.MakeBans(v6, bpf.MinBans+1, table.Hash()); err != nil {
		t.Fatal(err)
	}
	defer f.next.Close()
	before := moves
	for s.begin(f); !f.step(7); {
		for range r.IntN(20) {
			change()
		}
	}
	s.end()
	if moves == before || f.full {
		t.Errorf("%d moves while it was filled; full: %v", moves-before, f.full)
	}
	same(t, table, f.next)
}

// same fails unless two tables have the same bans.
func same(t *testing.T, a, b *bpf.Bans) {
	t.Helper()
	if a.Used() != b.Used() {
		t.Errorf("%d bans, and %d in the new table", a.Used(), b.Used())
	}
	a.Each(func(_ int, k bpf.Key, end uint32) {
		if _, have, found := b.Find(k); !found || have != end {
			t.Errorf("%v until %d; in the new table until %d (%v)", k, end, have, found)
		}
	})
}

// While a table grows nobody waits: at each step of it a ban is made, and lifted,
// and packets find the one and not the other.
func TestBansGoOnWhileATableGrows(t *testing.T) { // R-BX-15
	table := placesTable(t)
	table.configureOrFail(t, firewall.Rules{Ports: []uint16{enginetest.Mail}})
	ctx := context.Background()
	list := strangers(33_000)
	apply := func(add, del []firewall.Ban) {
		t.Helper()
		if err := table.Apply(ctx, add, del); err != nil {
			t.Error(err)
		}
	}
	apply(list[:32_760], nil)
	came, size := make(map[step]int), table.tables[inBan4].(*singles).table.Log2
	var lifted []firewall.Ban
	reached = func(s step) {
		if came[s]++; s == stepTurned { // the one moment that locks the table
			return
		}
		n := 32_800 + len(lifted)
		apply(list[n:n+1], list[len(lifted):len(lifted)+1])
		lifted = append(lifted, list[len(lifted)])
		for _, b := range []firewall.Ban{list[n], list[32_000]} {
			if v := table.verdictOf(t, b.Prefix.Addr()); v != xdpDrop {
				t.Errorf("at %q %v, which is banned, ends as %d", s, b.Prefix, v)
			}
		}
		if v := table.verdictOf(t, lifted[len(lifted)-1].Prefix.Addr()); v != xdpPass {
			t.Errorf("at %q who was pardoned ends as %d", s, v)
		}
	}
	apply(list[32_760:32_800], nil)
	table.growth.Wait()
	reached = nil
	for _, s := range []step{stepHintIn, stepTableIn, stepHalf, stepTurned, stepTableOut, stepHintOut} {
		if came[s] == 0 {
			t.Errorf("the table grew without %q", s)
		}
	}
	if n := table.tables[inBan4].(*singles).table.Log2; n != size+1 {
		t.Errorf("the table has 2^%d buckets", n)
	}
	want := append(slices.Clone(list[len(lifted):32_800]), list[32_800:32_800+len(lifted)]...)
	if n := table.countOrFail(t); n != len(want) {
		t.Errorf("%d bans stand, want %d", n, len(want))
	}
	for _, b := range want {
		if _, found, _ := table.tables[inBan4].get(b.Prefix); !found {
			t.Errorf("%v is lost", b.Prefix)
		}
	}
}

// Hits are never fewer than they were, also while they are carried over.
func TestHitsWhileATableGrows(t *testing.T) {
	table := placesTable(t)
	table.configureOrFail(t, firewall.Rules{Ports: []uint16{enginetest.Mail}})
	ctx := context.Background()
	list := strangers(33_000)
	one := list[0].Prefix
	if err := table.Apply(ctx, list[:32_768], nil); err != nil {
		t.Fatal(err)
	}
	var sent uint64
	look := func(s step) {
		if s == stepTurned {
			return
		}
		table.verdictOf(t, one.Addr())
		sent++
		have, err := table.Hits(ctx, []netip.Prefix{one})
		if err != nil || have[one].Packets != sent || have[one].First.After(time.Now()) {
			t.Errorf("at %q: %+v after %d packets (%v)", s, have[one], sent, err)
		}
	}
	look("before")
	reached = look
	if err := table.Apply(ctx, list[32_768:], nil); err != nil {
		t.Fatal(err)
	}
	table.growth.Wait()
	reached = nil
	if look("after"); sent < 5 {
		t.Errorf("%d looks", sent)
	}
}

// A table without room to go on grows at once, and all bans are in it.
func TestGrowsAtOnce(t *testing.T) {
	table := placesTable(t)
	table.configureOrFail(t, firewall.Rules{Ports: []uint16{enginetest.Mail}})
	list := strangers(300_000)
	for _, some := range [][]firewall.Ban{list[:32_769], list[32_769:200_000], list[200_000:]} { // the second while the first's growth is on its way
		if err := table.Apply(context.Background(), some, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := table.countOrFail(t); n != len(list) {
		t.Errorf("%d bans stand, want %d", n, len(list))
	}
}
