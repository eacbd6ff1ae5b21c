package nft

import "net/netip"

// Room says in which table a ban of p goes, and how many that holds: all of the
// one kind together, whatever sets they are in.
func (t *Table) Room(p netip.Prefix) (table string, most int) {
	s := setOf(p)
	if !s.rare() {
		return "addresses", t.opt.MaxBans
	}
	return "prefixes", t.opt.size(s)
}
