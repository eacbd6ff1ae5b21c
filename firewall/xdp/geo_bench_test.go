package xdp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"mailweir/geo"
)

// BenchmarkCountry looks sources up in the world, and in a trie of the kernel
// that is filled from the same world. "hot" is one source over and over,
// "random" a crowd: of IPv4 from the whole address space, of IPv6, where most of
// the space is nobody's, from the networks that the world knows. An empty
// program with the same crowd is beside them, and is to be taken off.
func BenchmarkCountry(b *testing.B) {
	w := realWorld(b)
	table := placesTable(b)
	table.configureOrFail(b, rulesFor(b, w))
	for _, family := range []int{4, 6} {
		frames := cleanFrames(family)
		if family == 6 {
			frames = knownFrames6(w)
		}
		for _, f := range frames {
			f[0] = byte(table.slot())
		}
		name := map[int]string{4: "IPv4", 6: "IPv6"}[family]
		trie, n := lookupInTrie(b, w, family)
		b.Run(name+"/empty/hot", func(b *testing.B) { hot(b, empty(b), frames[0]) })
		b.Run(name+"/empty/random", func(b *testing.B) { random(b, empty(b), frames) })
		b.Run(name+"/world/hot", func(b *testing.B) { hot(b, table.obj.MailweirGeo, frames[0]) })
		b.Run(name+"/world/random", func(b *testing.B) { random(b, table.obj.MailweirGeo, frames) })
		b.Run(name+"/trie/hot", func(b *testing.B) { hot(b, trie, frames[0]) })
		b.Run(name+"/trie/random", func(b *testing.B) { random(b, trie, frames) })
		b.Logf("%s: the trie holds %d prefixes", name, n)
	}
	announceWorld(b, w)
}

// knownFrames6 are from a crowd of sources in runs of IPv6 that are somewhere.
func knownFrames6(w *geo.Tables) [][]byte {
	r := rand.New(rand.NewPCG(5, 6))
	frames := make([][]byte, 0, crowd)
	for len(frames) < crowd {
		i := r.IntN(len(w.Runs6) - 1)
		hi := w.Runs6[i].Start + r.Uint64N(w.Runs6[i+1].Start-w.Runs6[i].Start)
		b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), r.Uint64())
		if a := netip.AddrFrom16([16]byte(b)); w.Lookup(a) != 0 {
			frames = append(frames, synFrame(a, 25))
		}
	}
	return frames
}

// prefixesOf cuts a world into prefixes of one kind each.
func prefixesOf(w *geo.Tables, family int) (list []netip.Prefix) {
	var starts []netip.Addr
	for a := range w.AtBoundaries() {
		if a.Is4() == (family == 4) && (!a.Prev().IsValid() || w.Lookup(a) != w.Lookup(a.Prev())) {
			starts = append(starts, a)
		}
	}
	slices.SortFunc(starts, netip.Addr.Compare)
	starts = slices.Compact(starts)
	for i, a := range starts {
		var end netip.Addr // the first behind
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		for a.IsValid() && a != end {
			p := netip.PrefixFrom(a, a.BitLen())
			for p.Bits() > 0 {
				wider := netip.PrefixFrom(a, p.Bits()-1).Masked()
				if wider.Addr() != a || end.IsValid() && wider.Contains(end) {
					break
				}
				p = wider
			}
			list = append(list, p)
			a = lastOf(p).Next()
		}
	}
	return list
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// lookupInTrie is a program that looks the source of a frame up in a trie.
func lookupInTrie(b *testing.B, w *geo.Tables, family int) (*ebpf.Program, int) {
	b.Helper()
	from, size := int16(26), int16(4)
	if family == 6 {
		from, size = 22, 16
	}
	var keys [][]byte
	var kinds []uint32
	for _, p := range prefixesOf(w, family) {
		if k := w.Lookup(p.Addr()); k != 0 {
			keys = append(keys, append([]byte{byte(p.Bits()), 0, 0, 0}, p.Addr().AsSlice()...))
			kinds = append(kinds, uint32(k))
		}
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: uint32(4 + size), ValueSize: 4, MaxEntries: uint32(len(keys)), Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	for i, k := range keys {
		if err := m.Put(k, kinds[i]); err != nil {
			b.Fatal(err)
		}
	}
	key := -int16(4 + size)
	ins := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, int32(from+size)), asm.JGT.Reg(asm.R4, asm.R3, "nowhere"),
		asm.StoreImm(asm.RFP, key, int64(8*size), asm.Word),
	}
	for i := int16(0); i < size; i += 4 {
		ins = append(ins, asm.LoadMem(asm.R1, asm.R2, from+i, asm.Word), asm.StoreMem(asm.RFP, key+4+i, asm.R1, asm.Word))
	}
	ins = append(ins,
		asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "nowhere"),
		asm.LoadMem(asm.R0, asm.R0, 0, asm.Word), asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("nowhere"), asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT", Flags: unix.BPF_F_XDP_HAS_FRAGS, Instructions: ins})
	if err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { prog.Close() })
	for i := 0; i < len(keys); i += 1000 { // the two agree, or the comparison is of nothing
		a, _ := netip.AddrFromSlice(keys[i][4:])
		if got, err := prog.Run(&ebpf.RunOptions{Data: synFrame(a, 25)}); err != nil || got != kinds[i] {
			b.Fatalf("the trie says %#x of %v, not %#x: %v", got, a, kinds[i], err)
		}
	}
	return prog, len(keys)
}
