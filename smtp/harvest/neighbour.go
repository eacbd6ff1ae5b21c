package harvest

import (
	"encoding/binary"
	"net/netip"
)

// maxGuests bounds the hosts of a /64 that are remembered as good: that there
// is one beside a guesser is all that matters.
const maxGuests = 2

// guest is a host of a /64 whose mail was accepted.
type guest struct {
	Host uint64 // the low half of its address
	At   instant
}

func hostOf(a netip.Addr) uint64 {
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:])
}

// welcome notes a host whose mail was accepted.
func (w *engine) welcome(now instant, a netip.Addr) {
	if a.Unmap().Is4() {
		return
	}
	k, host := sourceKey(a), hostOf(a)
	old, _ := w.guests.get(k)
	list := make([]guest, 0, maxGuests) // what get returned is shared
	for _, g := range old {
		if g.Host != host {
			list = append(list, g)
		}
	}
	if len(list) == maxGuests {
		list = append(list[:0], list[1:]...)
	}
	w.guests.put(k, append(list, guest{host, now}))
}

// hasNeighbour says whether another host of an address's /64 is known to be
// good: then hosts there belong to different people, as at some hosters, and
// one must not pay for another.
func (w *engine) hasNeighbour(now instant, a netip.Addr) bool {
	if w.guests.len() == 0 || a.Unmap().Is4() {
		return false
	}
	list, _ := w.guests.get(sourceKey(a))
	for _, g := range list {
		if g.Host != hostOf(a) && sinceGood(now, g.At) < knownFor {
			return true
		}
	}
	return false
}

// keyOf is the source that an address belongs to: its /64, or the address alone
// where a good neighbour is known in it.
func (w *engine) keyOf(now instant, a netip.Addr) key {
	if w.hasNeighbour(now, a) {
		return key(a.As16())
	}
	return sourceKey(a)
}
