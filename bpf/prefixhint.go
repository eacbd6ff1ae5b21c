package bpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync/atomic"
)

// PrefixHint writes a bitmap that stands before a trie of prefixes: bits of
// IPv4, then as many of IPv6.
type PrefixHint struct {
	mem  []uint64
	log2 int // of the bits of a family
}

// The bitmap before prefix4 and prefix6, and a generation of that before allow.
const (
	prefixBits = 20
	allowBits  = 16
)

// NewPrefixHint is over the mapped values of the map prefix_hint.
func NewPrefixHint(mem []byte) PrefixHint { return PrefixHint{words(mem), prefixBits} }

// NewAllowHints are over those of the map allow_hint, by generation.
func NewAllowHints(mem []byte) [2]PrefixHint {
	w := words(mem)
	return [2]PrefixHint{{w[:len(w)/2], allowBits}, {w[len(w)/2:], allowBits}}
}

// touched are the bits that p touches: of an IPv4 prefix those of what begins
// with as many bits, of an IPv6 prefix those of the hashes of its /32s.
func (h PrefixHint) touched(p netip.Prefix, yield func(bit uint32)) {
	all := uint32(1) << h.log2
	if p.Addr().Is4() {
		b := p.Addr().As4()
		for i := range uint32(1) << max(0, h.log2-p.Bits()) {
			yield(binary.BigEndian.Uint32(b[:])>>(32-h.log2) + i)
		}
		return
	}
	b := p.Addr().As16()
	if p.Bits() < 32-h.log2 { // more /32s than there are bits
		for i := range all {
			yield(all + i)
		}
		return
	}
	for i := range uint32(1) << max(0, 32-p.Bits()) {
		yield(all + (binary.BigEndian.Uint32(b[:])+i)*0x9e3779b1>>(32-h.log2))
	}
}

// Add sets what p touches: before p goes into the trie.
func (h PrefixHint) Add(p netip.Prefix) {
	h.touched(p, func(bit uint32) {
		w := &h.mem[bit/64]
		atomic.StoreUint64(w, *w|1<<(bit%64))
	})
}

// Rebuild clears what none of prefixes touches: after others went out of the
// trie. What is needed stays set all the while.
func (h PrefixHint) Rebuild(prefixes []netip.Prefix) {
	need := PrefixHint{make([]uint64, len(h.mem)), h.log2}
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
