package harvest

// recent is a map of bounded size that forgets what was not used for longest,
// in two generations: when the younger is full the elder goes, so that between
// half and all of the limit is kept.
type recent[K comparable, V any] struct {
	half       int
	young, old map[K]V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{half: max(1, limit/2), young: map[K]V{}, old: map[K]V{}}
}

// get looks k up, and remembers that it was used.
func (r *recent[K, V]) get(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	if ok {
		delete(r.old, k)
		r.put(k, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if len(r.young) >= r.half {
		if _, ok := r.young[k]; !ok {
			r.old, r.young = r.young, r.old // its room is used again
			clear(r.young)
		}
	}
	r.young[k] = v
}

func (r *recent[K, V]) len() int { return len(r.young) + len(r.old) }

// each calls f with everything, what was used lately last.
func (r *recent[K, V]) each(f func(K, V)) {
	for _, m := range []map[K]V{r.old, r.young} {
		for k, v := range m {
			f(k, v)
		}
	}
}
