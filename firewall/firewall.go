// Package firewall decides which sources the kernel drops, and for how long.
//
// An Offence (a connected socket and a reason) becomes a Ban (a prefix and an
// end) in the Ledger, which knows the guards that veto a ban, the doubling for
// repeat offenders and the maximum, and which keeps everything on disk. What
// enforces bans stands behind Engine: firewall/xdp and firewall/nft.
package firewall

import (
	"context"
	"iter"
	"net/netip"
	"os"
	"time"

	"mailweir/ref"
)

// Ban is one prefix that the kernel drops until a moment. It is 64 bytes and
// holds no pointers but the zone that netip.Addr can carry, which is never set.
type Ban struct {
	Prefix netip.Prefix // masked, never IPv4-mapped
	Since  time.Time
	Until  time.Time
	Reason Reason
	Ref    ref.Ref // of the transaction that convicted; its evidence is kept by the mail role
	Step   uint8   // 0 for a first ban, one more for each repeat (R-BX-14)
}

// Offence is a report that the peer of Conn earned a ban. Who the peer is, the
// kernel says: the reporter cannot name an address.
type Offence struct {
	Conn   *os.File // a connected TCP socket on a protected port
	Reason Reason
	Ref    ref.Ref
}

// Engine is something that enforces bans: xdp.Table, nft.Table, or a test's
// fake. Both methods are transactions: all or nothing.
type Engine interface {
	// Replace makes bans the whole truth: at start, and to mend drift.
	Replace(ctx context.Context, bans iter.Seq[Ban]) error
	// Apply adds and lifts bans. Adding a ban that stands renews its end;
	// lifting one that does not stand is no error. Only Prefix of del is read.
	Apply(ctx context.Context, add, del []Ban) error
}
