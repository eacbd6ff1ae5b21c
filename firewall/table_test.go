package firewall

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"unsafe"
)

func TestEntriesAreSmall(t *testing.T) {
	if n := unsafe.Sizeof(entry[uint32]{}); n != 24 {
		t.Errorf("an IPv4 entry takes %d bytes, want 24", n)
	}
	if n := unsafe.Sizeof(entry[[16]byte]{}); n != 36 {
		t.Errorf("an IPv6 entry takes %d bytes, want 36", n)
	}
}

// The table against a map, with so many removals that the index is closed up
// all the time.
func TestTableAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	table, want := newTable6(), map[netip.Prefix]uint32{}
	for i := range uint32(200_000) {
		a := netip.AddrFrom16([16]byte{0: 0x20, 14: byte(rnd.IntN(8)), 15: byte(rnd.IntN(256))})
		p := netip.PrefixFrom(a, 120+rnd.IntN(9)).Masked()
		if rnd.IntN(2) == 0 {
			if _, have := want[p]; table.remove(p) != have {
				t.Fatalf("remove %v, want %v", p, have)
			}
			delete(want, p)
			continue
		}
		table.put(record{prefix: p, until: i, reason: Trap})
		want[p] = i
	}
	if table.len() != len(want) {
		t.Fatalf("%d entries, want %d", table.len(), len(want))
	}
	for p, until := range want {
		if r, ok := table.get(p); !ok || r.until != until || r.prefix != p {
			t.Fatalf("%v: %+v, %v, want until %d", p, r, ok, until)
		}
	}
	var seen int
	for i := range table.chunkCount() {
		seen += len(table.chunk(i, nil))
	}
	if seen != len(want) {
		t.Errorf("walked %d entries, want %d", seen, len(want))
	}
	crowds := map[netip.Prefix]int{} // by the lengths of their prefixes less eight
	for p := range want {
		wide, _ := p.Addr().Prefix(p.Bits() - 8)
		crowds[wide]++
	}
	for p := range want {
		wide, _ := p.Addr().Prefix(p.Bits() - 8)
		if n := table.crowd(p); n < crowds[wide] {
			t.Fatalf("%v: a crowd of %d, want at least %d", p, n, crowds[wide])
		}
		crowds[wide]--
		table.remove(p)
	}
	if i := slices.IndexFunc(table.crowds, func(n uint32) bool { return n != 0 }); i >= 0 {
		t.Errorf("a crowd of %d is left of nobody", table.crowds[i])
	}
}

// Of many records some share their slot's part of the hash with others: who is
// not there is not found for that.
func TestTableTellsHashesApart(t *testing.T) {
	const n = 200_000
	at := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	tab := newTable4()
	var list []record
	for i := range n {
		list = append(list, record{prefix: at(i), until: uint32(i) + 1})
	}
	tab.putAll(list)
	for i := range 2 * n {
		r, found := tab.get(at(i))
		if found != (i < n) || found && (r.prefix != at(i) || r.until != uint32(i)+1) {
			t.Fatalf("%v: %+v, %v", at(i), r, found)
		}
	}
}
