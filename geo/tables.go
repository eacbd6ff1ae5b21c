package geo

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// What the packet program has room for. A database that needs more is refused,
// not cut.
const (
	MaxNetworks = 1023    // rules for autonomous systems, together
	MaxSplits   = 1 << 18 // runs of IPv4 addresses in /24s that are not of one kind
	MaxRuns6    = 1 << 20 // runs of IPv6 /64s
	MaxDeep6    = 1 << 16 // runs of IPv6 addresses in /64s that are not of one kind
)

// Kind is where an address is, as far as rules can tell: its country's Class in
// the low half, and in the high half its network, which is 1 for the first of
// Tables.ASNs. Zero is nowhere.
type Kind uint32

// Class is the country.
func (k Kind) Class() Class { return Class(k) }

// Network is the place of an autonomous system in Tables.ASNs, beginning with
// 1; 0 where it is none of them.
func (k Kind) Network() int { return int(k >> 16) }

const (
	// splitByte stands in Tables.V4 for a /24 that is looked up in Split4.
	splitByte = 255
	// splitKind stands in Tables.Runs6 for a /64 that is looked up in Deep6.
	splitKind = ^Kind(0)
)

// Run4 says of which kind addresses are from Start on.
type Run4 struct {
	Start uint32
	Kind  Kind
}

// Run6 says of which kind /64s are from Start on, the first half of their
// addresses.
type Run6 struct {
	Start uint64
	Kind  Kind
}

// Deep6 says of which kind addresses are from Hi, Lo on.
type Deep6 struct {
	Hi, Lo uint64
	Kind   Kind
}

// Tables say of every address where it is, in the form that the packet program
// looks it up in: IPv4 by one byte for each /24, IPv6 by a bounded search in
// sorted runs. They do not change once they are made.
type Tables struct {
	V4     []byte    // by /24: the place of its kind in Kinds, or splitByte
	Kinds  [254]Kind // the most frequent ones
	Split4 []Run4    // complete where V4 says so, and only there; in order
	Index4 []uint32  // by /16: which run of Split4 its first address is in
	Runs6  []Run6    // from :: on, in order
	Index6 []uint32  // by bits 3 to 22 of the addresses in 2000::/3: likewise in Runs6
	Deep6  []Deep6   // in order

	ASNs []uint32 // the networks that rules name
	From []Info   // the databases
}

// Compile makes tables of the databases that are in use. asns are the networks
// that rules name; others are not told apart. Every boundary, and the addresses
// before and behind it, are looked up in both before it returns.
func (db *DB) Compile(asns []uint32) (*Tables, error) {
	asns = slices.Clone(asns)
	slices.Sort(asns)
	asns = slices.Compact(asns)
	if len(asns) > MaxNetworks {
		return nil, fmt.Errorf("compile geo tables: rules name %d networks, and %d is the most: name fewer", len(asns), MaxNetworks)
	}
	s := snapshot{asns: asns}
	for _, slot := range []*slot{db.country, db.asn} {
		if l := slot.now.Load(); l != nil {
			s.sources = append(s.sources, l)
		}
	}
	if len(s.sources) == 0 {
		return nil, ErrNoDatabase
	}
	t := &Tables{ASNs: asns, From: db.Info()}
	t.compile4(s.runs(4))
	t.compile6(s.runs(6))
	if err := t.fits(); err != nil {
		return nil, err
	}
	return t, t.check(s)
}

// ErrNoDatabase is that of Compile where no database is in use.
var ErrNoDatabase = errors.New("compile geo tables: no database is in use: weir status says why")

func (t *Tables) fits() error {
	for _, c := range []struct {
		what       string
		have, most int
	}{
		{"runs of IPv4 addresses in split /24s", len(t.Split4), MaxSplits},
		{"runs of IPv6 networks", len(t.Runs6), MaxRuns6},
		{"runs of IPv6 addresses in split /64s", len(t.Deep6), MaxDeep6},
	} {
		if c.have > c.most {
			return fmt.Errorf("compile geo tables: the database has %d %s, and there is room for %d: use one of countries only", c.have, c.what, c.most)
		}
	}
	return nil
}

// check holds the tables against the databases at every boundary and on both
// sides of it.
func (t *Tables) check(s snapshot) error {
	for _, f := range []family{4, 6} {
		for _, r := range s.runs(f) {
			for _, k := range around(r.start, f) {
				a := k.addr(f)
				if a.Is4In6() {
					continue // never on the wire
				}
				if got, want := t.Lookup(a), s.kind(a); got != want {
					return fmt.Errorf("compile geo tables: %v is of kind %#x and comes out as %#x: report this, and use another database", a, want, got)
				}
			}
		}
	}
	return nil
}

// around is a key with those before and behind it.
func around(k u128, f family) []u128 {
	keys := []u128{k}
	if k != (u128{}) {
		keys = append(keys, k.before())
	}
	if after, ok := k.next(); ok && (f == 6 || after.lo < 1<<32) {
		keys = append(keys, after)
	}
	return keys
}

// Lookup does what the packet program does.
func (t *Tables) Lookup(a netip.Addr) Kind {
	if a = a.Unmap(); a.Is4() {
		return t.lookup4(keyOf4(a))
	}
	return t.lookup6(keyOf6(a))
}

func (t *Tables) lookup4(a uint32) Kind {
	place := t.V4[a>>8]
	if place != splitByte {
		return t.Kinds[place]
	}
	at := search(t.Index4[a>>16], t.Index4[a>>16+1], func(i uint32) bool { return t.Split4[i].Start <= a })
	return t.Split4[at].Kind
}

func (t *Tables) lookup6(a u128) Kind {
	low, high := uint32(0), uint32(len(t.Runs6)-1)
	if a.hi>>61 == 1 {
		b := a.hi >> 41 & 0xfffff
		low, high = t.Index6[b], t.Index6[b+1]
	}
	k := t.Runs6[search(low, high, func(i uint32) bool { return t.Runs6[i].Start <= a.hi })].Kind
	if k != splitKind {
		return k
	}
	at := search(0, uint32(len(t.Deep6)-1), func(i uint32) bool {
		d := t.Deep6[i]
		return !a.less(u128{d.Hi, d.Lo})
	})
	return t.Deep6[at].Kind
}

// search finds the last of low to high that begins at or before what is
// looked for; low does.
func search(low, high uint32, begins func(uint32) bool) uint32 {
	for left := high - low; left > 0; {
		half := (left + 1) / 2
		if begins(low + half) {
			low, left = low+half, left-half
		} else {
			left = half - 1
		}
	}
	return low
}

// Of says which kinds a rule is about: the class of a country, or the place of
// a network. false: no table can tell, because the network is none of ASNs.
func (t *Tables) Of(r Rule) (class Class, network int, ok bool) {
	if r.ASN == 0 {
		return ClassOf(r.Country), 0, true
	}
	i, found := slices.BinarySearch(t.ASNs, r.ASN)
	return 0, i + 1, found
}

// AtBoundaries yields the addresses at which kinds change, those before and
// those behind.
func (t *Tables) AtBoundaries() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		at := func(k u128, f family) bool {
			for _, k := range around(k, f) {
				if !yield(k.addr(f)) {
					return false
				}
			}
			return true
		}
		for i := 1; i < len(t.V4); i++ {
			if t.V4[i] != t.V4[i-1] && !at(u128{lo: uint64(i) << 8}, 4) {
				return
			}
		}
		for _, r := range t.Split4 {
			if !at(u128{lo: uint64(r.Start)}, 4) {
				return
			}
		}
		for _, r := range t.Runs6 {
			if !at(u128{hi: r.Start}, 6) {
				return
			}
		}
		for _, d := range t.Deep6 {
			if !at(u128{d.Hi, d.Lo}, 6) {
				return
			}
		}
	}
}
