package geo

import (
	"iter"
	"net/netip"
)

// Range is a run of addresses, both ends inside.
type Range struct{ First, Last netip.Addr }

// Ranges4 yields, in order, the runs of IPv4 addresses whose kind is wanted.
// Neighbours are one.
func (t *Tables) Ranges4(wanted func(Kind) bool) iter.Seq[Range] {
	return merged(4, wanted, func(yield func(u128, Kind) bool) {
		for i, place := range t.V4 {
			first := uint32(i) << 8
			if place != splitByte {
				if !yield(u128{lo: uint64(first)}, t.Kinds[place]) {
					return
				}
				continue
			}
			if !yield(u128{lo: uint64(first)}, t.lookup4(first)) {
				return
			}
			at := search(t.Index4[first>>16], t.Index4[first>>16+1], func(i uint32) bool { return t.Split4[i].Start <= first })
			for _, r := range t.Split4[at+1:] {
				if r.Start > first|255 {
					break
				}
				if !yield(u128{lo: uint64(r.Start)}, r.Kind) {
					return
				}
			}
		}
	})
}

// Ranges6 does the same for IPv6.
func (t *Tables) Ranges6(wanted func(Kind) bool) iter.Seq[Range] {
	return merged(6, wanted, func(yield func(u128, Kind) bool) {
		deep := t.Deep6[1:]
		for i, r := range t.Runs6 {
			if r.Kind != splitKind {
				if !yield(u128{hi: r.Start}, r.Kind) {
					return
				}
				continue
			}
			for len(deep) > 0 && (i+1 == len(t.Runs6) || deep[0].Hi < t.Runs6[i+1].Start) {
				if !yield(u128{deep[0].Hi, deep[0].Lo}, deep[0].Kind) {
					return
				}
				deep = deep[1:]
			}
		}
	})
}

// merged makes ranges of starts.
func merged(f family, wanted func(Kind) bool, starts iter.Seq2[u128, Kind]) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		var first u128
		open := false
		for k, kind := range starts {
			switch want := wanted(kind); {
			case want && !open:
				first, open = k, true
			case !want && open:
				open = false
				if !yield(Range{first.addr(f), k.before().addr(f)}) {
					return
				}
			}
		}
		if open {
			last := u128{^uint64(0), ^uint64(0)}
			yield(Range{first.addr(f), last.addr(f)})
		}
	}
}

// Wanted says whether a kind is one that rules name.
func (t *Tables) Wanted(rules []Rule) func(Kind) bool {
	classes, networks := make(map[Class]bool), make(map[int]bool)
	for _, r := range rules {
		switch class, network, known := t.Of(r); {
		case class != 0:
			classes[class] = true
		case known:
			networks[network] = true
		}
	}
	return func(k Kind) bool { return classes[k.Class()] || networks[k.Network()] }
}
