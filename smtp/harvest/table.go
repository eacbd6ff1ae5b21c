package harvest

// table is the bounded set of sources, in two orders of idleness: harmless
// ones, which are forgotten first, and those that named an unknown recipient.
type table struct {
	max      int
	byKey    map[[16]byte]*source
	harmless ring
	guilty   ring
}

// ring is a doubly linked list around a sentinel; the sentinel's next is the
// longest idle.
type ring struct{ root source }

func newTable(limit int) *table {
	t := &table{max: limit, byKey: make(map[[16]byte]*source)}
	for _, r := range []*ring{&t.harmless, &t.guilty} {
		r.root.prev, r.root.next = &r.root, &r.root
	}
	return t
}

func (t *table) len() int { return len(t.byKey) }

// get returns the source of a key, made when it is new, as the latest active.
func (t *table) get(key [16]byte) *source {
	s := t.byKey[key]
	if s == nil {
		if len(t.byKey) >= t.max {
			t.forgetOne()
		}
		s = &source{key: key}
		t.byKey[key] = s
	} else {
		s.unlink()
	}
	t.ringOf(s).push(s)
	return s
}

// suspect moves s to those that are forgotten last.
func (t *table) suspect(s *source) {
	if !s.guilty {
		s.unlink()
		s.guilty = true
		t.guilty.push(s)
	}
}

func (t *table) ringOf(s *source) *ring {
	if s.guilty {
		return &t.guilty
	}
	return &t.harmless
}

func (t *table) forgetOne() {
	s := t.harmless.root.next
	if s == &t.harmless.root {
		s = t.guilty.root.next
	}
	s.unlink()
	delete(t.byKey, s.key)
}

func (r *ring) push(s *source) {
	last := r.root.prev
	s.prev, s.next = last, &r.root
	last.next, r.root.prev = s, s
}

func (s *source) unlink() {
	s.prev.next, s.next.prev = s.next, s.prev
	s.prev, s.next = nil, nil
}

// tombs remembers recipients that were valid once, in two generations: when
// the younger is full the elder goes, so that between half and all of the
// limit is kept, at two words each.
type tombs struct {
	half       int
	young, old map[uint64]struct{}
}

func newTombs(limit int) *tombs {
	return &tombs{half: max(1, limit/2), young: map[uint64]struct{}{}}
}

func (t *tombs) has(h uint64) bool {
	if _, ok := t.young[h]; ok {
		return true
	}
	_, ok := t.old[h]
	return ok
}

func (t *tombs) add(h uint64) {
	if _, ok := t.young[h]; ok {
		return
	}
	if len(t.young) >= t.half {
		t.old, t.young = t.young, make(map[uint64]struct{}, t.half)
	}
	t.young[h] = struct{}{}
}
