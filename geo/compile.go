package geo

import (
	"iter"
	"net/netip"
	"slices"
)

// snapshot is the databases in use at one moment, so that what is compiled is
// what is checked.
type snapshot struct {
	sources []*loaded
	asns    []uint32 // sorted
}

// run begins a run of addresses of one kind.
type run struct {
	start u128
	kind  Kind
}

func (s snapshot) kind(a netip.Addr) Kind {
	var o Origin
	for _, l := range s.sources {
		l.lookup(a, &o)
	}
	return s.kindOf(o)
}

func (s snapshot) kindOf(o Origin) Kind {
	k := Kind(ClassOf(o.Country))
	if i, ok := slices.BinarySearch(s.asns, o.ASN); ok {
		k |= Kind(i+1) << 16
	}
	return k
}

// runs lays the databases over each other: from the first address of a family
// on, neighbours of different kinds.
func (s snapshot) runs(f family) []run {
	var layers []*layer
	for _, l := range s.sources {
		next, stop := iter.Pull2(l.starts(f))
		defer stop()
		y := &layer{next: next}
		y.step()
		layers = append(layers, y)
	}
	list := []run{{}}
	for {
		at, more := u128{}, false
		for _, y := range layers {
			if y.more && (!more || y.start.less(at)) {
				at, more = y.start, true
			}
		}
		if !more {
			return list
		}
		var o Origin
		for _, y := range layers {
			for y.more && !at.less(y.start) {
				y.now = y.coming
				y.step()
			}
			o.overlay(y.now)
		}
		list = appendRun(list, run{at, s.kindOf(o)})
	}
}

// overlay is what the look-up in a further database does to o.
func (o *Origin) overlay(over Origin) {
	if over.Country != "" {
		o.Country = over.Country
	}
	if over.ASN != 0 {
		o.ASN = over.ASN
	}
}

func appendRun(list []run, r run) []run {
	last := &list[len(list)-1]
	switch {
	case last.kind == r.kind:
		return list
	case last.start == r.start:
		last.kind = r.kind
		return list
	}
	return append(list, r)
}

// layer is one database on the way through all addresses.
type layer struct {
	next   func() (u128, Origin, bool)
	now    Origin
	start  u128   // where coming begins
	coming Origin // while there is more
	more   bool
}

func (y *layer) step() { y.start, y.coming, y.more = y.next() }

// compile4 gives each /24 that is of one kind its byte, as far as bytes go: the
// most frequent kinds have one. The others, and the /24s that are split, are
// spelled out in Split4.
func (t *Tables) compile4(runs []run) {
	t.chooseKinds(runs)
	places := make(map[Kind]byte)
	for i, k := range t.Kinds {
		if _, ok := places[k]; !ok {
			places[k] = byte(i)
		}
	}
	t.V4 = make([]byte, 1<<24)
	for i, r := range runs {
		first, last := uint64(r.start.lo), end4(runs, i)
		whole, behind := (first+255)>>8, (last+1)>>8
		place, frequent := places[r.kind]
		if !frequent {
			place = splitByte
		}
		for n := whole; n < behind; n++ {
			t.V4[n] = place
		}
		spelled := !frequent && whole < behind
		for _, edge := range []uint64{first, last + 1} {
			if edge&255 != 0 {
				t.V4[edge>>8], spelled = splitByte, true
			}
		}
		if spelled {
			t.Split4 = appendRun4(t.Split4, Run4{uint32(first), r.kind})
		}
	}
	if len(t.Split4) == 0 {
		t.Split4 = []Run4{{}}
	}
	t.Index4 = indexOf(1<<16, len(t.Split4), func(b uint64, i int) bool { return uint64(t.Split4[i].Start) <= b<<16 })
}

func appendRun4(list []Run4, r Run4) []Run4 {
	if n := len(list); n > 0 && list[n-1].Kind == r.Kind {
		return list
	}
	return append(list, r)
}

// end4 is the last address of a run.
func end4(runs []run, i int) uint64 {
	if i+1 < len(runs) {
		return runs[i+1].start.lo - 1
	}
	return 1<<32 - 1
}

// chooseKinds takes the kinds that most /24s are of.
func (t *Tables) chooseKinds(runs []run) {
	count := make(map[Kind]uint64)
	for i, r := range runs {
		if whole, behind := (r.start.lo+255)>>8, (end4(runs, i)+1)>>8; whole < behind {
			count[r.kind] += behind - whole
		}
	}
	kinds := make([]Kind, 0, len(count))
	for k := range count {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b Kind) int {
		if count[a] != count[b] {
			return int(int64(count[b]) - int64(count[a]))
		}
		return int(int64(a) - int64(b))
	})
	copy(t.Kinds[:], kinds)
}

// compile6 makes runs of whole /64s, and spells out the /64s that are split.
func (t *Tables) compile6(runs []run) {
	t.Deep6 = []Deep6{{}}
	var now Kind
	for i := 0; i < len(runs); {
		hi, group := runs[i].start.hi, runs[i:i+1]
		for len(group) < len(runs)-i && runs[i+len(group)].start.hi == hi {
			group = runs[i : i+len(group)+1]
		}
		if len(group) == 1 && group[0].start.lo == 0 {
			t.addRun6(hi, group[0].kind)
		} else {
			t.split6(hi, now, group)
		}
		now = group[len(group)-1].kind
		i += len(group)
	}
	t.Index6 = indexOf(1<<20, len(t.Runs6), func(b uint64, i int) bool { return t.Runs6[i].Start <= 1<<61+b<<41 })
}

// split6 spells out a /64: now is of which kind it is up to the first of group.
func (t *Tables) split6(hi uint64, now Kind, group []run) {
	t.addRun6(hi, splitKind)
	if group[0].start.lo != 0 {
		t.Deep6 = append(t.Deep6, Deep6{hi, 0, now})
	}
	for _, r := range group {
		t.Deep6 = append(t.Deep6, Deep6{hi, r.start.lo, r.kind})
	}
	if hi != 1<<64-1 {
		t.addRun6(hi+1, group[len(group)-1].kind)
	}
}

// addRun6 appends a run, or takes the place of one that begins where it does.
func (t *Tables) addRun6(start uint64, k Kind) {
	if n := len(t.Runs6); n > 0 && t.Runs6[n-1].Start == start {
		t.Runs6 = t.Runs6[:n-1]
	}
	if n := len(t.Runs6); n == 0 || t.Runs6[n-1].Kind != k {
		t.Runs6 = append(t.Runs6, Run6{start, k})
	}
}

// indexOf says for the first address of each of so many buckets, and for the
// first behind them, which run it is in.
func indexOf(buckets, runs int, begins func(bucket uint64, run int) bool) []uint32 {
	index := make([]uint32, buckets+1)
	at := 0
	for b := range index {
		for at+1 < runs && begins(uint64(b), at+1) {
			at++
		}
		index[b] = uint32(at)
	}
	return index
}
