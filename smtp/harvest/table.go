package harvest

// table is the bounded set of sources: an open hash over a slab of chunks. It
// knows the order of idleness within three rings, so that what is forgotten
// first is the longest idle source with nothing to its name.
type table struct {
	max   int
	hash  func(key) uint64
	slots []uint64 // 0: free, else index of a source + 1, below half of its key's hash, by which it stands there
	slab  [][]source
	used  uint32   // of the slab, ever
	free  []uint32 // given back
	count int
	rings [3]ring
}

// Rings, in the order of forgetting.
const (
	harmless = iota
	guilty   // named an unknown recipient, or worse
	friends  // had mail accepted
)

// ring is a doubly linked list by index: head is the longest idle one.
type ring struct {
	head, tail uint32
	count      int
}

const (
	none      = ^uint32(0)
	chunkBits = 12
	chunkSize = 1 << chunkBits
)

func newTable(limit int, hash func(key) uint64) *table {
	t := &table{max: max(1, limit), hash: hash, slots: make([]uint64, 64)}
	for i := range t.rings {
		t.rings[i] = ring{head: none, tail: none}
	}
	return t
}

func (t *table) len() int { return t.count }

func (t *table) at(i uint32) *source { return &t.slab[i>>chunkBits][i&(chunkSize-1)] }

// slot is where k is, or would be put.
func (t *table) slot(k key) uint64 {
	i, _ := t.place(k)
	return i
}

// place is slot, and what is to be written there but for the index.
func (t *table) place(k key) (i, half uint64) {
	mask := uint64(len(t.slots) - 1)
	half = t.hash(k) >> 32 << 32
	i = half >> 32 & mask
	for t.slots[i] != 0 && (t.slots[i]>>32<<32 != half || t.at(index(t.slots[i])).key != k) {
		i = (i + 1) & mask
	}
	return i, half
}

func index(slot uint64) uint32 { return uint32(slot) - 1 }

// find returns the source of a key as it is; nil: none.
func (t *table) find(k key) *source {
	if v := t.slots[t.slot(k)]; v != 0 {
		return t.at(index(v))
	}
	return nil
}

// get returns the source of a key, made when it is new, as active now. Its place
// in the ring is mended only when it would be forgotten by it.
func (t *table) get(k key, now instant) *source {
	i, half := t.place(k)
	if v := t.slots[i]; v != 0 {
		s := t.at(index(v))
		s.last = max(s.last, now)
		return s
	}
	if t.count >= t.max {
		t.forgetOne()
		i = t.slot(k)
	}
	if (t.count+1)*4 > len(t.slots)*3 {
		t.grow()
		i = t.slot(k)
	}
	n := t.take()
	s := t.at(n)
	*s = source{key: k, first: now, last: now}
	t.slots[i] = half | uint64(n+1)
	t.count++
	t.link(s, n)
	return s
}

func (t *table) take() uint32 {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i
	}
	if int(t.used>>chunkBits) == len(t.slab) {
		t.slab = append(t.slab, make([]source, chunkSize))
	}
	t.used++
	return t.used - 1
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]uint64, 2*len(old))
	mask := uint64(len(t.slots) - 1)
	for _, v := range old {
		if v == 0 {
			continue
		}
		i := v >> 32 & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = v
	}
}

// move puts s into a ring, as the latest active there.
func (t *table) move(s *source, to uint8) {
	n := index(t.slots[t.slot(s.key)])
	t.unlink(s, n)
	s.ring = to
	t.link(s, n)
}

func (t *table) link(s *source, n uint32) {
	r := &t.rings[s.ring]
	s.prev, s.next, s.linked = r.tail, none, s.last
	if r.tail == none {
		r.head = n
	} else {
		t.at(r.tail).next = n
	}
	r.tail = n
	r.count++
}

func (t *table) unlink(s *source, n uint32) {
	r := &t.rings[s.ring]
	if s.prev == none {
		r.head = s.next
	} else {
		t.at(s.prev).next = s.next
	}
	if s.next == none {
		r.tail = s.prev
	} else {
		t.at(s.next).prev = s.prev
	}
	r.count--
}

// forgetOne makes room: the longest idle harmless one goes first, then a
// guesser, and friends when they are most of the table: no flood of strangers
// washes away who was there before.
func (t *table) forgetOne() {
	from := friends
	for i := range t.rings[:friends] {
		if t.rings[i].count > 0 && (i == harmless || t.rings[friends].count <= t.max/2) {
			from = i
			break
		}
	}
	if t.rings[from].count == 0 {
		from = guilty
	}
	t.remove(t.idle(from))
}

// idle is the longest idle source of a ring, nearly: who was active since he
// got his place gets one at the end first.
func (t *table) idle(ring int) uint32 {
	r := &t.rings[ring]
	for range r.count {
		n := r.head
		s := t.at(n)
		if s.linked == s.last {
			return n
		}
		t.unlink(s, n)
		t.link(s, n)
	}
	return r.head
}

func (t *table) remove(n uint32) {
	s := t.at(n)
	t.unlink(s, n)
	t.closeUp(t.slot(s.key))
	*s = source{}
	t.free = append(t.free, n)
	t.count--
}

// closeUp empties a slot and moves up what stands behind it only because the
// slot was taken.
func (t *table) closeUp(hole uint64) {
	mask := uint64(len(t.slots) - 1)
	for i := (hole + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		home := t.slots[i] >> 32 & mask
		if (i-home)&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = 0
}

// put enters a source of a snapshot, which come with the longest idle first.
func (t *table) put(s *source) {
	ring := s.ring
	n := t.get(s.key, s.last)
	keep := *n
	*n = *s
	n.prev, n.next, n.ring, n.linked = keep.prev, keep.next, keep.ring, keep.linked
	t.move(n, ring)
}
