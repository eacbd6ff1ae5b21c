package bpf

import (
	"sync/atomic"
	"unsafe"
)

// Firsts reads and clears the stamps of first drops: an array of pairs of words
// by the low bits of a ban's hash. A later ban takes the place of an earlier.
// The zero value has none.
type Firsts struct{ mem []uint64 }

// NewFirsts is over the mapped values of the map firsts.
func NewFirsts(mem []byte) Firsts { return Firsts{words(mem)} }

func words(mem []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), len(mem)/8)
}

// pair is where the stamp of the ban with a hash belongs.
func (f Firsts) pair(sum uint64) []uint64 {
	i := sum % uint64(len(f.mem)/2)
	return f.mem[2*i : 2*i+2]
}

// At is when the ban with that hash dropped its first packet, in ns of
// CLOCK_MONOTONIC; 0 when that is not known, or not any more.
func (f Firsts) At(sum uint64) uint64 {
	if f.mem == nil {
		return 0
	}
	p := f.pair(sum)
	check, at := atomic.LoadUint64(&p[0]), atomic.LoadUint64(&p[1])
	if at == 0 || check^at != sum {
		return 0
	}
	return at
}

// Clear forgets the stamp of a ban: it is a new one now.
func (f Firsts) Clear(sum uint64) {
	if f.At(sum) != 0 {
		atomic.StoreUint64(&f.pair(sum)[1], 0)
	}
}
