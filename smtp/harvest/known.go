package harvest

import (
	"net/netip"
	"time"

	"mailweir/smtp"
)

// WellKnown lists the sources whose history makes them known or trusted: those
// that a rule about addresses had better not hit. A /64 that is one source is
// told by its first address.
func (w *Watch) WellKnown(now time.Time) (list []netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ring := range []int{guilty, friends} {
		for n := w.e.sources.rings[ring].tail; n != none; {
			s := w.e.sources.at(n)
			if t := s.past.tier(at(now), smtp.New); t == smtp.Known || t == smtp.Trusted {
				list = append(list, netip.AddrFrom16(s.key).Unmap())
			}
			n = s.prev
		}
	}
	return list
}
