package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

// banSet is a set of bans of one length: a hash of masked addresses. The nft
// way, one interval set for all, does not do: its elements must not overlap, so
// a /24 banned for an hour inside a /16 banned for a week would have to be cut
// up and put together again, and each ban would lose its own end and counter.
type banSet struct {
	family int // 4 or 6
	bits   int
}

func setOf(p netip.Prefix) banSet {
	if p.Addr().Is4() {
		return banSet{4, p.Bits()}
	}
	return banSet{6, p.Bits()}
}

func (s banSet) width() int {
	if s.family == 4 {
		return 32
	}
	return 128
}

// single says that the set holds single addresses.
func (s banSet) single() bool { return s.bits == s.width() }

// name is ban4 and ban6 for single addresses, else ban4_24 and the like.
func (s banSet) name() string {
	if s.single() {
		return fmt.Sprintf("ban%d", s.family)
	}
	return fmt.Sprintf("ban%d_%d", s.family, s.bits)
}

func parseSet(name string) (s banSet, ok bool) {
	family, bits, long := strings.Cut(strings.TrimPrefix(name, "ban"), "_")
	switch family {
	case "4":
		s = banSet{4, 32}
	case "6":
		s = banSet{6, 128}
	}
	if long {
		s.bits, _ = strconv.Atoi(bits)
	}
	return s, s.family != 0 && s.name() == name
}

// always are the sets that stand also when they are empty.
var always = []banSet{{4, 32}, {6, 128}}

// order sorts sets as packets meet them: the longest prefix first.
func order(sets map[banSet]bool) []banSet {
	list := make([]banSet, 0, len(sets))
	for s := range sets {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b banSet) int {
		if a.family != b.family {
			return a.family - b.family
		}
		return b.bits - a.bits
	})
	return list
}

func (s banSet) keyType() nftables.SetDatatype {
	if s.family == 4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

func (s banSet) set(size int) *nftables.Set {
	return &nftables.Set{
		Table: table, Name: s.name(), KeyType: s.keyType(), KeyByteOrder: binaryutil.BigEndian,
		HasTimeout: true, Counter: true, Size: uint32(size),
	}
}

// The sets that hold no bans.
var (
	portSet   = &nftables.Set{Table: table, Name: "ports", KeyType: nftables.TypeInetService, KeyByteOrder: binaryutil.BigEndian}
	allowSet4 = &nftables.Set{Table: table, Name: "allow4", KeyType: nftables.TypeIPAddr, KeyByteOrder: binaryutil.BigEndian, Interval: true}
	allowSet6 = &nftables.Set{Table: table, Name: "allow6", KeyType: nftables.TypeIP6Addr, KeyByteOrder: binaryutil.BigEndian, Interval: true}
	localSet4 = &nftables.Set{Table: table, Name: "local4", KeyType: nftables.TypeIPAddr, KeyByteOrder: binaryutil.BigEndian, Interval: true}
	localSet6 = &nftables.Set{Table: table, Name: "local6", KeyType: nftables.TypeIP6Addr, KeyByteOrder: binaryutil.BigEndian, Interval: true}
)

// local are sources of this link only, and what no unicast source can be; the
// packet program of package bpf passes the same.
var local = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// intervals makes the elements of an interval set: the start and the end of
// each run of addresses, runs neither overlapping nor touching, because the
// kernel refuses the one and some kernels mishandle the other.
func intervals(prefixes []netip.Prefix, family int) (list []nftables.SetElement) {
	prefixes = slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool {
		return p.Addr().Is4() != (family == 4)
	})
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	var end netip.Addr // the first address after the run; invalid: none or no run yet
	for _, p := range prefixes {
		after := behind(p)
		switch {
		case len(list) == 0 || end.IsValid() && end.Less(p.Addr()):
			list = closeRun(list, end)
			list = append(list, nftables.SetElement{Key: p.Addr().AsSlice()})
			end = after
		case end.IsValid() && (!after.IsValid() || end.Less(after)):
			end = after
		}
	}
	return closeRun(list, end)
}

// closeRun ends the last run; one to the end of all addresses has no end.
func closeRun(list []nftables.SetElement, end netip.Addr) []nftables.SetElement {
	if len(list) == 0 || !end.IsValid() {
		return list
	}
	return append(list, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
}

// behind is the first address after p; invalid after the last of all.
func behind(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		if host := min(8, max(0, (i+1)*8-p.Bits())); host > 0 {
			b[i] |= 1<<host - 1
		}
	}
	last, _ := netip.AddrFromSlice(b)
	return last.Next()
}
