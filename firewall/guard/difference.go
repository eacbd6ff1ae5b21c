package guard

import (
	"net/netip"

	"mailweir/firewall"
)

// difference is a change of bans that an engine has still to make: the ban to
// add, or nil to lift.
type difference map[netip.Prefix]*firewall.Ban

func take(d difference, most int) difference {
	some := make(difference, min(len(d), most))
	for p, b := range d {
		if len(some) == most {
			break
		}
		some[p] = b
		delete(d, p)
	}
	return some
}

func (d difference) split() (add, del []firewall.Ban) {
	for p, b := range d {
		if b == nil {
			del = append(del, firewall.Ban{Prefix: p})
		} else {
			add = append(add, *b)
		}
	}
	return add, del
}
