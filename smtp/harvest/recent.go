package harvest

// recent is a map of bounded size that forgets what was not used for longest,
// in two generations: when the younger is full the elder goes, so that between
// half and all of the limit is kept. Its room is used again.
type recent[K comparable, V any] struct {
	half       int
	hash       func(K) uint64
	young, old cells[K, V]
	gone       func(V) // told of what is forgotten; nil: nobody
}

func newRecent[K comparable, V any](limit int, hash func(K) uint64) *recent[K, V] {
	return &recent[K, V]{half: max(1, limit/2), hash: hash}
}

// get looks k up, and remembers that it was used.
func (r *recent[K, V]) get(k K) (v V, ok bool) {
	if r.len() == 0 {
		return v, false
	}
	h := r.hash(k)
	if c := r.young.find(h, k); c != nil {
		return c.value, true
	}
	c := r.old.find(h, k)
	if c == nil {
		return v, false
	}
	v = c.value
	var none V
	c.value, c.state = none, moved
	r.old.count--
	r.put(k, v)
	return v, true
}

func (r *recent[K, V]) put(k K, v V) {
	h := r.hash(k)
	if c := r.young.find(h, k); c != nil {
		c.value = v
		return
	}
	if r.young.count >= r.half {
		if r.gone != nil {
			r.old.each(func(_ K, v V) { r.gone(v) })
		}
		r.old, r.young = r.young, r.old
		r.young.clear()
	}
	r.young.add(r.hash, h, k, v)
}

func (r *recent[K, V]) len() int { return r.young.count + r.old.count }

// each calls f with everything, what was used lately last.
func (r *recent[K, V]) each(f func(K, V)) {
	r.old.each(f)
	r.young.each(f)
}

// cells are an open hash: a look-up touches one place of the memory, where a
// map touches two and more.
type cells[K comparable, V any] struct {
	list  []cell[K, V]
	used  int // that are not free
	count int // that hold something
}

type cell[K comparable, V any] struct {
	key   K
	value V
	state uint8
}

// States of a cell. One that was moved keeps its place, for those behind it.
const (
	free = iota
	taken
	moved
)

// find is where k is; nil: nowhere.
func (c *cells[K, V]) find(h uint64, k K) *cell[K, V] {
	if len(c.list) == 0 {
		return nil
	}
	mask := uint64(len(c.list) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch e := &c.list[i]; {
		case e.state == free:
			return nil
		case e.key == k && e.state == taken:
			return e
		}
	}
}

// add enters k, which is not there.
func (c *cells[K, V]) add(hash func(K) uint64, h uint64, k K, v V) {
	if (c.used+1)*4 > len(c.list)*3 {
		was := c.list
		*c = cells[K, V]{list: make([]cell[K, V], max(8, 2*len(was)))}
		for i := range was {
			if e := &was[i]; e.state == taken {
				c.place(hash(e.key), e.key, e.value)
			}
		}
	}
	c.place(h, k, v)
}

func (c *cells[K, V]) place(h uint64, k K, v V) {
	mask := uint64(len(c.list) - 1)
	i := h & mask
	for c.list[i].state != free {
		i = (i + 1) & mask
	}
	c.list[i] = cell[K, V]{k, v, taken}
	c.used++
	c.count++
}

func (c *cells[K, V]) clear() {
	clear(c.list)
	c.used, c.count = 0, 0
}

func (c *cells[K, V]) each(f func(K, V)) {
	for i := range c.list {
		if e := &c.list[i]; e.state == taken {
			f(e.key, e.value)
		}
	}
}
