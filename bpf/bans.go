package bpf

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The clock of ban tables: CLOCK_MONOTONIC in ticks of 2^27 ns.
const (
	TickShift = 27
	ForEver   = math.MaxUint32 // an end that never comes
)

// MinBans is the size of the smallest table, as the logarithm of its buckets.
// FewBans is that of the first one: it takes 32,768 bans of IPv4 before a larger
// one is filled.
const (
	MinBans = 8
	FewBans = roomy
)

// Tables is how many tables of a family can stand side by side: two of each
// size. A table of 2^n buckets has place 2n or 2n+1.
const Tables = 64

// Bans writes a table of single bans; bans.h says how it is made. It is for one
// writer; packets read meanwhile, once Live is set.
type Bans struct {
	Map    *ebpf.Map
	V6     bool
	Log2   int               // of the number of buckets
	Live   func()            // returns when no packet is under way that came before; nil: none looks at the table
	Firsts Firsts            // of the bans in it: cleared before a ban begins, since packets come at once
	Moved  func(Key, uint32) // told of each ban that was moved, and of its end; may be nil
	hash   Hash
	used   int
	mem    []byte
	slot   []uint64 // of IPv4 with the hits between
	hint   []piece  // 1<<hintLog bits for each bucket
	twice  []Key    // what was found in both buckets: its writer died while it moved the ban
}

// MakeBans makes an empty table in the kernel.
func MakeBans(v6 bool, log2 int, h Hash) (*Bans, error) {
	b := &Bans{V6: v6, Log2: log2, hash: h}
	m, err := ebpf.NewMap(b.spec())
	if err != nil {
		return nil, fmt.Errorf("make a table for %d bans: %w", b.Capacity(), err)
	}
	if err := b.open(m); err != nil {
		m.Close()
		return nil, err
	}
	return b, nil
}

// OpenBans opens a table that another process has made, and makes its hint anew.
// The caller gives up m.
func OpenBans(m *ebpf.Map, v6 bool, log2 int, h Hash) (*Bans, error) {
	b := &Bans{V6: v6, Log2: log2, hash: h}
	if !IsBans(m, v6, log2) {
		m.Close()
		return nil, fmt.Errorf("open a table of bans: %w", ebpf.ErrMapIncompatible)
	}
	if err := b.open(m); err != nil {
		m.Close()
		return nil, err
	}
	b.Each(func(n int, k Key, _ uint32) {
		h := b.home(k)
		word, bit := b.hinted(h)
		*word |= bit
		b.used++
		if _, also := b.in(h.first, k); also && n/b.slots() == h.second {
			b.twice = append(b.twice, k)
		}
	})
	return b, nil
}

// DropCopies clears one of two slots that hold the same ban, so that it can be
// lifted. Not when the table is opened: it may be at work in other hands.
func (b *Bans) DropCopies() {
	for _, k := range b.twice {
		h := b.home(k)
		first, both := b.in(h.first, k)
		second, also := b.in(h.second, k)
		if both && also {
			b.AddHits(first, b.TakeHits(second))
			b.setEnd(second, 0)
			b.used--
		}
	}
	b.twice = nil
}

// in finds k in a bucket.
func (b *Bans) in(bucket int, k Key) (n int, ok bool) {
	for n := bucket * b.slots(); n < (bucket+1)*b.slots(); n++ {
		if have, end := b.at(n); end != 0 && have == k {
			return n, true
		}
	}
	return 0, false
}

// IsBans says whether m is laid out as such a table is.
func IsBans(m *ebpf.Map, v6 bool, log2 int) bool {
	want := (&Bans{V6: v6, Log2: log2}).spec()
	return m.MaxEntries() == want.MaxEntries && m.ValueSize() == want.ValueSize && m.Flags() == want.Flags
}

func (b *Bans) open(m *ebpf.Map) error {
	mem, err := Memory(m)
	if err != nil {
		return err
	}
	b.mem, b.slot = mem, words(mem)
	for range pieces(b.Log2) {
		p, err := makePiece()
		if err != nil {
			return errors.Join(fmt.Errorf("make the hint for %d bans: %w", b.Capacity(), err), b.release())
		}
		b.hint = append(b.hint, p)
	}
	b.Map = m
	return nil
}

// Words of a bucket, and of IPv4 where in it the hits begin, counted in halves.
const (
	line4 = 12
	hits4 = 16
	line6 = 16
)

// spec is the array that holds the table.
func (b *Bans) spec() *ebpf.MapSpec {
	s := &ebpf.MapSpec{Name: "mailweir_ban4", Type: ebpf.Array, KeySize: 4, MaxEntries: 1 << b.Log2, Flags: unix.BPF_F_MMAPABLE | unix.BPF_F_INNER_MAP}
	s.ValueSize = 8 * line4
	if b.V6 {
		s.Name, s.ValueSize = "mailweir_ban6", 8*line6
	}
	return s
}

// Memory maps the values of m.
func Memory(m *ebpf.Map) ([]byte, error) {
	mem, err := unix.Mmap(m.FD(), 0, int(m.MaxEntries())*int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m, err)
	}
	return mem, nil
}

// Close lets go of the table.
func (b *Bans) Close() error { return errors.Join(b.release(), b.Map.Close()) }

func (b *Bans) release() (err error) {
	if b.mem != nil {
		_ = unix.Munmap(b.mem)
	}
	for _, p := range b.hint {
		_ = unix.Munmap(p.mem)
		err = errors.Join(err, p.m.Close())
	}
	b.mem, b.slot, b.hint = nil, nil, nil
	return err
}

// Maps are all that the table is made of.
func (b *Bans) Maps() []*ebpf.Map {
	list := []*ebpf.Map{b.Map}
	for _, p := range b.hint {
		list = append(list, p.m)
	}
	return list
}

// Hash is the key of the table's hash.
func (b *Bans) Hash() Hash { return b.hash }

// slots is how many there are in a bucket.
func (b *Bans) slots() int {
	if b.V6 {
		return 4
	}
	return 8
}

// Capacity is how many slots there are.
func (b *Bans) Capacity() int { return b.slots() << b.Log2 }

// Used is how many bans there are, with those that are over.
func (b *Bans) Used() int { return b.used }

// Room says whether n bans more leave a quarter free: fuller tables have full
// pairs of buckets. A table whose memory is little leaves three quarters free,
// so that no ban has to wait until another was moved (see move).
func (b *Bans) Room(n int) bool {
	most := b.Capacity() / 4 * 3
	if b.Log2 <= roomy {
		most = b.Capacity() / 4
	}
	return b.used+n <= most
}

// Stretch says whether n bans more go in all the same while a larger table is
// filled: half of one whose memory is little, seven eighths of others.
func (b *Bans) Stretch(n int) bool {
	most := b.Capacity() / 8 * 7
	if b.Log2 <= roomy {
		most = b.Capacity() / 2
	}
	return b.used+n <= most
}

// roomy is the size up to which a table is kept nearly empty: 1.5 MiB of IPv4.
const roomy = 14

// home is where a ban belongs.
type home struct {
	first, second int // buckets
	tag           uint
}

func (b *Bans) home(k Key) home {
	sum, mask := b.hash.Sum(k, b.V6), uint32(1)<<b.Log2-1
	tag := uint32(sum >> (64 - hintLog))
	first := uint32(sum) & mask
	return home{int(first), int((first ^ ((tag+1)*0x9e3779b1 | 1)) & mask), uint(tag)}
}

// The words of a slot of IPv6.
const (
	hi = iota
	lo
	meta
	hits
)

// word4 is slot n of IPv4.
func (b *Bans) word4(n int) *uint64 { return &b.slot[n/8*line4+n%8] }

// at reads a slot; an end of 0 is none.
func (b *Bans) at(n int) (k Key, end uint32) {
	if b.V6 {
		s := b.slot[4*n : 4*n+4]
		return Key{s[hi], s[lo], uint8(s[meta])}, uint32(s[meta] >> 32)
	}
	w := *b.word4(n)
	return Key{Hi: w >> 32, Bits: 32}, uint32(w)
}

// write fills a free slot. Packets see the ban with the last store.
func (b *Bans) write(n int, k Key, end uint32) {
	atomic.StoreUint32(b.count(n), 0)
	if !b.V6 {
		atomic.StoreUint64(b.word4(n), k.Hi<<32|uint64(end))
		return
	}
	s := b.slot[4*n : 4*n+4]
	atomic.StoreUint64(&s[hi], k.Hi)
	atomic.StoreUint64(&s[lo], k.Lo)
	use := (uint32(s[meta])>>8 + 1) << 8
	atomic.StoreUint64(&s[meta], uint64(end)<<32|uint64(use)|uint64(k.Bits))
}

// setEnd changes the end of a ban, or clears its slot by an end of 0.
func (b *Bans) setEnd(n int, end uint32) {
	switch {
	case b.V6:
		m := &b.slot[4*n+meta]
		atomic.StoreUint64(m, uint64(end)<<32|*m&math.MaxUint32)
	case end == 0:
		atomic.StoreUint64(b.word4(n), 0)
	default:
		w := b.word4(n)
		atomic.StoreUint64(w, *w&^math.MaxUint32|uint64(end))
	}
}

func (b *Bans) count(n int) *uint32 {
	if b.V6 {
		return (*uint32)(unsafe.Pointer(&b.slot[4*n+hits]))
	}
	return (*uint32)(unsafe.Add(unsafe.Pointer(&b.slot[n/8*line4]), 4*(hits4+n%8)))
}

// Hits is how many packets the ban in slot n has dropped. It stops at its
// largest number.
func (b *Bans) Hits(n int) uint32 { return atomic.LoadUint32(b.count(n)) }

// TakeHits reads them and begins anew.
func (b *Bans) TakeHits(n int) uint32 { return atomic.SwapUint32(b.count(n), 0) }

// AddHits adds to them.
func (b *Bans) AddHits(n int, some uint32) {
	for {
		old := b.Hits(n)
		if atomic.CompareAndSwapUint32(b.count(n), old, old+min(some, math.MaxUint32-old)) {
			return
		}
	}
}

// Find says in which slot k is, and when its ban ends.
func (b *Bans) Find(k Key) (n int, end uint32, ok bool) {
	h := b.home(k)
	if word, bit := b.hinted(h); *word&bit == 0 {
		return 0, 0, false
	}
	for _, bucket := range [2]int{h.first, h.second} {
		if n, ok := b.in(bucket, k); ok {
			_, end := b.at(n)
			return n, end, true
		}
	}
	return 0, 0, false
}

// Touch reads what Put will look at, and returns something of it. Of many that are
// touched one after the other the processor waits for the memory of all at once.
func (b *Bans) Touch(k Key) uint64 {
	h, line := b.home(k), line4
	if b.V6 {
		line = line6
	}
	word, _ := b.hinted(h)
	return *word ^ b.slot[h.first*line] ^ b.slot[(h.first+1)*line-1]
}

// Put bans k until end, anew or with another end. A ban that is over at now
// starts to count anew; fresh says that it does. No room is an error of the
// table: a larger one is needed.
func (b *Bans) Put(k Key, end, now uint32) (fresh, ok bool) {
	if n, was, found := b.Find(k); found {
		if fresh = was <= now; fresh {
			b.Firsts.Clear(b.hash.Sum(k, b.V6))
			atomic.StoreUint32(b.count(n), 0)
		}
		b.setEnd(n, end)
		return fresh, true
	}
	h := b.home(k)
	n, ok := b.free(h)
	if !ok {
		return false, false
	}
	b.Firsts.Clear(b.hash.Sum(k, b.V6))
	word, bit := b.hinted(h)
	atomic.StoreUint64(word, *word|bit)
	b.write(n, k, end)
	b.used++
	return true, true
}

// free finds a free slot: in the first bucket while that is not nearly full, so
// that most who are banned are found by one look; then in the emptier one, since
// making room waits for packets. A table three quarters full has seven eighths of
// its bans in their first bucket, and has made room for one in 3,000; one that
// fills every first bucket to the end, for one in a hundred.
func (b *Bans) free(h home) (n int, ok bool) {
	if some := b.load(h.first); some >= b.slots()*3/4 && b.load(h.second) < some {
		return b.freeIn(h.second)
	}
	if n, ok := b.freeIn(h.first); ok {
		return n, true
	}
	return b.makeRoom(h)
}

// load is how many bans are in a bucket.
func (b *Bans) load(bucket int) (some int) {
	for n := bucket * b.slots(); n < (bucket+1)*b.slots(); n++ {
		if _, end := b.at(n); end != 0 {
			some++
		}
	}
	return some
}

func (b *Bans) freeIn(bucket int) (n int, ok bool) {
	for n := bucket * b.slots(); n < (bucket+1)*b.slots(); n++ {
		if _, end := b.at(n); end == 0 {
			return n, true
		}
	}
	return 0, false
}

// makeRoom moves a ban out of two full buckets into its other one.
func (b *Bans) makeRoom(h home) (n int, ok bool) {
	for _, bucket := range [2]int{h.first, h.second} {
		for n := bucket * b.slots(); n < (bucket+1)*b.slots(); n++ {
			k, _ := b.at(n)
			other := b.home(k)
			if to, ok := b.freeIn(other.first ^ other.second ^ bucket); ok {
				b.move(n, to)
				return n, true
			}
		}
	}
	return 0, false
}

// move leaves the ban in both slots until no packet can have looked into the new
// one before, and into the old one after.
func (b *Bans) move(from, to int) {
	k, end := b.at(from)
	b.write(to, k, end)
	if b.Live != nil {
		b.Live()
	}
	b.setEnd(from, 0)
	b.AddHits(to, b.Hits(from))
	if b.Moved != nil {
		b.Moved(k, end)
	}
}

// Remove lifts the ban of k. The hint goes after it, unless another needs it:
// all that share a bit share both buckets.
func (b *Bans) Remove(k Key) bool {
	n, _, ok := b.Find(k)
	if !ok {
		return false
	}
	b.setEnd(n, 0)
	b.used--
	h := b.home(k)
	for _, bucket := range [2]int{h.first, h.second} {
		for n := bucket * b.slots(); n < (bucket+1)*b.slots(); n++ {
			if other, end := b.at(n); end != 0 && b.home(other) == h {
				return true
			}
		}
	}
	word, bit := b.hinted(h)
	atomic.StoreUint64(word, *word&^bit)
	return true
}

// Each calls yield with every ban, also with those that are over.
func (b *Bans) Each(yield func(n int, k Key, end uint32)) { b.Range(0, b.Capacity(), yield) }

// Range is Each over the slots of a range, as far as there are so many.
func (b *Bans) Range(from, to int, yield func(n int, k Key, end uint32)) {
	for n := from; n < min(to, b.Capacity()); n++ {
		if k, end := b.at(n); end != 0 {
			yield(n, k, end)
		}
	}
}

// WaitForPackets returns when no processor is still at a packet that it began
// before: such a one may be looking where nobody may look any more. Where the
// kernel has no such call, packets are long done by now.
func WaitForPackets() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
}
