package bpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync/atomic"
)

// hintBits is how many bits there are for each family.
const hintBits = 1 << 20

// PrefixHint writes the bitmaps before the tries of prefixes.
type PrefixHint struct{ mem []uint64 }

// NewPrefixHint is over the mapped values of the map prefix_hint.
func NewPrefixHint(mem []byte) PrefixHint { return PrefixHint{words(mem)} }

// touched are the bits that p touches: of an IPv4 prefix those of its /20s, of
// an IPv6 prefix those of the hashes of its /32s.
func touched(p netip.Prefix, yield func(bit uint32)) {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		for i := range uint32(1) << max(0, 20-p.Bits()) {
			yield(binary.BigEndian.Uint32(b[:])>>12 + i)
		}
		return
	}
	b := p.Addr().As16()
	if p.Bits() < 12 { // as many /32s as there are bits
		for i := range uint32(hintBits) {
			yield(hintBits + i)
		}
		return
	}
	for i := range uint32(1) << max(0, 32-p.Bits()) {
		yield(hintBits + (binary.BigEndian.Uint32(b[:])+i)*0x9e3779b1>>12)
	}
}

// Add sets what p touches: before p goes into the trie.
func (h PrefixHint) Add(p netip.Prefix) {
	touched(p, func(bit uint32) {
		w := &h.mem[bit/64]
		atomic.StoreUint64(w, *w|1<<(bit%64))
	})
}

// Rebuild clears what none of prefixes touches: after others went out of the
// trie. What is needed stays set all the while.
func (h PrefixHint) Rebuild(prefixes []netip.Prefix) {
	need := PrefixHint{make([]uint64, len(h.mem))}
	for _, p := range prefixes {
		need.Add(p)
	}
	for i, w := range need.mem {
		if h.mem[i]&^w != 0 {
			atomic.StoreUint64(&h.mem[i], h.mem[i]&w)
		}
	}
}

// Ticks is the end of a ban in ticks, not before until (CLOCK_MONOTONIC, ns).
func Ticks(until uint64) uint32 {
	const half = 1<<TickShift - 1
	if until > math.MaxUint64-half || (until+half)>>TickShift >= ForEver {
		return ForEver
	}
	return uint32((until + half) >> TickShift)
}

// Until is the end that ticks stand for.
func Until(ticks uint32) uint64 {
	if ticks == ForEver {
		return math.MaxUint64
	}
	return uint64(ticks) << TickShift
}
