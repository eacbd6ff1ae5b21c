package enginetest

import (
	"context"
	"net/netip"
	"time"

	"mailweir/firewall"
)

// Drops says whether a connection of src to the protected port is dropped: it
// waits for one ban to count it. Tests of single engines use it.
func (w *World) Drops(e firewall.Enforcer, src, prefix string) {
	w.t.Helper()
	p := netip.MustParsePrefix(prefix)
	packets := func() (n uint64) {
		w.must("read hits", w.Inside(func() error {
			hits, err := e.Hits(context.Background(), []netip.Prefix{p})
			n = hits[p].Packets
			return err
		}))
		return n
	}
	before := packets()
	w.Silent(src, Mail, func() bool { return packets() > before })
}

// Bans are bans of prefixes for a time from now.
func Bans(d time.Duration, prefixes ...string) []firewall.Ban { return bans(d, prefixes...) }

// Peer is the client's interface.
const Peer = peer

// Outside runs f in the client's namespace.
func (w *World) Outside(f func() error) error { return w.in(w.Client, f) }
