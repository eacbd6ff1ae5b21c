package firewall

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// record is one ban, standing or past, as the ledger works with it. Times are
// Unix seconds.
type record struct {
	prefix netip.Prefix
	since  uint32
	until  uint32
	reason Reason
	step   uint8
	ended  bool   // the engines were told that it is over
	mark   uint64 // a ref; with reason Operator the id of a note
}

// address is an IP address as it is kept.
type address interface{ uint32 | [16]byte }

// key is a prefix as it is kept.
type key[A address] struct {
	addr A
	bits uint8
}

// entry is a record as it is kept: 24 bytes for IPv4, 36 for IPv6, without
// pointers, so that the garbage collector never looks at ten million of them.
type entry[A address] struct {
	addr   A
	bits   uint8
	reason Reason
	step   uint8
	state  uint8
	since  uint32
	until  uint32
	mark   [2]uint32 // two halves: a uint64 would round IPv6 entries up to 40 bytes
}

func (e *entry[A]) key() key[A] { return key[A]{e.addr, e.bits} }

const (
	free uint8 = iota
	used
	usedEnded
)

// chunkSize is how many entries are allocated at a time, and walked under one
// lock.
const chunkSize = 4096

// table finds records by their prefix. Entries live in chunks that never move
// and never grow; an index of 4 bytes a slot points at them. A slot is 0, or has
// the entry's number + 1 in as many bits as the index is long, and in the others a
// part of its hash: of ten million entries each look is one into memory that no
// cache has, and other entries on the way need not be looked at.
type table[A address] struct {
	pack   func(netip.Addr) A
	unpack func(A) netip.Addr
	seed   maphash.Seed
	index  []uint32 // open addressing; its length is a power of two
	chunks [][]entry[A]
	unused []uint32 // entry numbers below top that are free
	top    uint32   // entry numbers from here on were never used
	count  int
	byBits [129]int // how many of each prefix length: which look-ups can hit
	crowds []uint32 // how many within prefixes of eight bits less, by their hash

	touched uint32 // of no meaning
}

// crowdCount is how many crowds are told apart: enough that neighbours of a
// hundred thousand records are seldom counted one by one for nothing.
const crowdCount = 1 << 16

func newTable4() *table[uint32] {
	return &table[uint32]{
		pack: func(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) },
		unpack: func(v uint32) netip.Addr {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], v)
			return netip.AddrFrom4(b)
		},
		seed: maphash.MakeSeed(), index: make([]uint32, 64), crowds: make([]uint32, crowdCount),
	}
}

func newTable6() *table[[16]byte] {
	return &table[[16]byte]{
		pack: netip.Addr.As16, unpack: netip.AddrFrom16,
		seed: maphash.MakeSeed(), index: make([]uint32, 64), crowds: make([]uint32, crowdCount),
	}
}

func (t *table[A]) key(p netip.Prefix) key[A] {
	return key[A]{t.pack(p.Addr()), uint8(p.Bits())}
}

func (t *table[A]) at(n uint32) *entry[A] { return &t.chunks[n/chunkSize][n%chunkSize] }

// locate is where k belongs at the earliest, and its part of the hash. The seed is
// random: sources choose their addresses, and must not choose where they collide.
func (t *table[A]) locate(k key[A]) (home uint64, tag uint32) {
	sum, mask := maphash.Comparable(t.seed, k), uint64(len(t.index)-1)
	return sum & mask, uint32(sum>>32) &^ uint32(mask)
}

// find returns the place in the index of k, or the empty one where it belongs.
func (t *table[A]) find(k key[A]) (i uint64, tag uint32) {
	mask := uint64(len(t.index) - 1)
	i, tag = t.locate(k)
	for t.index[i] != 0 && (t.index[i]&^uint32(mask) != tag || t.entry(i).key() != k) {
		i = (i + 1) & mask
	}
	return i, tag
}

// entry is the one that a used slot of the index points at.
func (t *table[A]) entry(i uint64) *entry[A] { return t.at(t.number(i)) }

func (t *table[A]) number(i uint64) uint32 { return t.index[i]&uint32(len(t.index)-1) - 1 }

func (t *table[A]) get(p netip.Prefix) (record, bool) {
	if t.byBits[p.Bits()] == 0 {
		return record{}, false
	}
	i, _ := t.find(t.key(p))
	if t.index[i] == 0 {
		return record{}, false
	}
	return t.record(t.entry(i)), true
}

func (t *table[A]) record(e *entry[A]) record {
	return record{
		prefix: netip.PrefixFrom(t.unpack(e.addr), int(e.bits)),
		since:  e.since, until: e.until, reason: e.reason, step: e.step,
		ended: e.state == usedEnded,
		mark:  uint64(e.mark[0]) | uint64(e.mark[1])<<32,
	}
}

// put adds r, or takes the place of the record of the same prefix.
func (t *table[A]) put(r record) {
	k := t.key(r.prefix)
	i, tag := t.find(k)
	if t.index[i] == 0 {
		if t.count >= len(t.index)/4*3 {
			t.reserve(t.count + 1)
			i, tag = t.find(k)
		}
		t.index[i] = t.take() + 1 | tag
		t.count++
		t.byBits[k.bits]++
		*t.crowdOf(r.prefix)++
	}
	e := t.entry(i)
	*e = entry[A]{
		addr: k.addr, bits: k.bits, reason: r.reason, step: r.step, state: used,
		since: r.since, until: r.until,
		mark: [2]uint32{uint32(r.mark), uint32(r.mark >> 32)},
	}
	if r.ended {
		e.state = usedEnded
	}
}

// putAll is put of some hundred records, whose places in a large index are waited
// for at once.
func (t *table[A]) putAll(list []record) {
	for i := range list {
		home, _ := t.locate(t.key(list[i].prefix))
		t.touched ^= t.index[home]
	}
	for i := range list {
		t.put(list[i])
	}
}

func (t *table[A]) take() uint32 {
	if n := len(t.unused); n > 0 {
		e := t.unused[n-1]
		t.unused = t.unused[:n-1]
		return e
	}
	if t.top%chunkSize == 0 {
		t.chunks = append(t.chunks, make([]entry[A], chunkSize))
	}
	t.top++
	return t.top - 1
}

// crowdOf counts the records of p's length within what is eight bits wider, and
// perhaps others.
func (t *table[A]) crowdOf(p netip.Prefix) *uint32 {
	wide, _ := p.Addr().Prefix(max(p.Bits()-8, 0))
	return &t.crowds[maphash.Comparable(t.seed, key[A]{t.pack(wide.Addr()), uint8(p.Bits())})%crowdCount]
}

// crowd is how many records of p's length there may be at most within what is
// eight bits wider. It spares the counting where there are few.
func (t *table[A]) crowd(p netip.Prefix) int { return int(*t.crowdOf(p)) }

// reserve makes the index large enough for n records, so that a restore of
// millions does not grow it again and again.
func (t *table[A]) reserve(n int) {
	size := len(t.index)
	for n >= size/4*3 {
		size *= 2
	}
	if size == len(t.index) {
		return
	}
	t.index = make([]uint32, size)
	for n := range t.top {
		if e := t.at(n); e.state != free {
			i, tag := t.locate(e.key())
			for t.index[i] != 0 { // no two entries are the same
				i = (i + 1) & uint64(size-1)
			}
			t.index[i] = n + 1 | tag
		}
	}
}

// remove forgets the record of p. The index is closed up behind it, so that
// there are no gravestones to walk over.
func (t *table[A]) remove(p netip.Prefix) bool {
	i, _ := t.find(t.key(p))
	if t.index[i] == 0 {
		return false
	}
	n := t.number(i)
	*t.at(n) = entry[A]{}
	t.unused = append(t.unused, n)
	t.count--
	t.byBits[p.Bits()]--
	*t.crowdOf(p)--
	t.closeUp(i)
	return true
}

func (t *table[A]) closeUp(hole uint64) {
	mask := uint64(len(t.index) - 1)
	t.index[hole] = 0
	for i := (hole + 1) & mask; t.index[i] != 0; i = (i + 1) & mask {
		home, _ := t.locate(t.entry(i).key())
		if (i-home)&mask >= (i-hole)&mask { // it may stand in the hole: home is not behind it
			t.index[hole], t.index[i] = t.index[i], 0
			hole = i
		}
	}
}

func (t *table[A]) chunkCount() int { return len(t.chunks) }

// chunk appends the records of one chunk to list.
func (t *table[A]) chunk(i int, list []record) []record {
	for n := range t.chunks[i] {
		if e := &t.chunks[i][n]; e.state != free {
			list = append(list, t.record(e))
		}
	}
	return list
}

func (t *table[A]) len() int { return t.count }

// covering appends the records whose prefixes hold all of p, widest first.
func (t *table[A]) covering(p netip.Prefix, list []record) []record {
	for bits := 0; bits <= p.Bits(); bits++ {
		if t.byBits[bits] == 0 {
			continue
		}
		wide, _ := p.Addr().Prefix(bits)
		if r, ok := t.get(wide); ok {
			list = append(list, r)
		}
	}
	return list
}

// records is a table of either family.
type records interface {
	get(netip.Prefix) (record, bool)
	put(record)
	putAll([]record)
	remove(netip.Prefix) bool
	crowd(netip.Prefix) int
	reserve(int)
	len() int
	chunkCount() int
	chunk(int, []record) []record
	covering(netip.Prefix, []record) []record
}
