package xdp

import "net/netip"

// mostPrefixes is the room of each map of prefixes: MAX_PREFIXES of the packet
// program.
const mostPrefixes = 1 << 14

// Room says in which table a ban of p goes, and how many that holds; 0: single
// addresses and the common lengths of IPv6, whose tables grow.
func (t *Table) Room(p netip.Prefix) (table string, most int) {
	switch n, _ := place(p); n {
	case inPrefix4:
		return "IPv4 prefixes", mostPrefixes
	case inPrefix6:
		return "IPv6 prefixes other than /64, /56 and /48", mostPrefixes
	}
	return "addresses", 0
}
