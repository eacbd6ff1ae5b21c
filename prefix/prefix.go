// Package prefix is sets of address prefixes, which are asked at every
// connection and replaced whole.
package prefix

import (
	"math"
	"net/netip"
	"slices"
)

// Set is a set of prefixes. It is not changed once it is made; nil is the empty
// one.
type Set struct {
	list []netip.Prefix // in order, none inside another
	in   map[netip.Prefix]struct{}
	bits [2][]int // lengths that there are, by family, longest first
}

// New returns the set of what is in the list. IPv4-mapped addresses are IPv4, host
// bits are cleared, and what lies inside another is left out.
func New(list []netip.Prefix) *Set {
	s := &Set{in: make(map[netip.Prefix]struct{}, len(list))}
	all := make([]netip.Prefix, 0, len(list))
	for _, p := range list {
		if p = Canonical(p); p.IsValid() {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare) // a wider one stands before what lies in it
	for _, p := range all {
		if n := len(s.list); n > 0 && s.list[n-1].Overlaps(p) {
			continue
		}
		s.list = append(s.list, p)
		s.in[p] = struct{}{}
		f := family(p.Addr())
		if !slices.Contains(s.bits[f], p.Bits()) {
			s.bits[f] = append(s.bits[f], p.Bits())
		}
	}
	return s
}

// Canonical is a prefix in the one form in which it is compared; the zero Prefix
// for what is none.
func Canonical(p netip.Prefix) netip.Prefix {
	a, bits := p.Addr().WithZone(""), p.Bits()
	if a.Is4In6() {
		a, bits = a.Unmap(), bits-96
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Find returns the prefix that an address is in.
func (s *Set) Find(a netip.Addr) (netip.Prefix, bool) {
	if s == nil || !a.IsValid() {
		return netip.Prefix{}, false
	}
	a = a.Unmap().WithZone("")
	for _, bits := range s.bits[family(a)] {
		p, _ := a.Prefix(bits)
		if _, ok := s.in[p]; ok {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// Overlapping are the members that have an address in common with p.
func (s *Set) Overlapping(p netip.Prefix) []netip.Prefix {
	if s == nil || !p.IsValid() {
		return nil
	}
	if around, ok := s.Find(p.Addr()); ok && around.Bits() <= p.Bits() {
		return []netip.Prefix{around}
	}
	from, _ := slices.BinarySearchFunc(s.list, p, netip.Prefix.Compare)
	to := from
	for to < len(s.list) && p.Overlaps(s.list[to]) {
		to++
	}
	return slices.Clone(s.list[from:to])
}

// Without is s but for the members given.
func (s *Set) Without(out []netip.Prefix) *Set {
	if len(out) == 0 {
		return s
	}
	gone := make(map[netip.Prefix]bool, len(out))
	for _, p := range out {
		gone[p] = true
	}
	return New(slices.DeleteFunc(s.List(), func(p netip.Prefix) bool { return gone[p] }))
}

// List is what is in the set, in order.
func (s *Set) List() []netip.Prefix {
	if s == nil {
		return nil
	}
	return slices.Clone(s.list)
}

// Len is how many prefixes there are.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.list)
}

// used6 is where all of the IPv6 internet is (RFC 4291 section 2.4), of which the
// registries have been given about 1/64 (a /9 in all).
var used6 = netip.MustParsePrefix("2000::/3")

const given6 = 9

// Share is which part of the internet is in the set: of all IPv4 addresses, or of
// as many IPv6 addresses as have been given out, whichever is more, up to 1.
func (s *Set) Share() float64 {
	var sum [2]float64
	for _, p := range s.List() {
		switch {
		case p.Addr().Is4() || !p.Overlaps(used6):
			sum[family(p.Addr())] += math.Ldexp(1, -p.Bits())
		case p.Bits() <= given6:
			sum[1]++
		default:
			sum[1] += math.Ldexp(1, given6-p.Bits())
		}
	}
	return min(1, max(sum[0], sum[1]))
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
