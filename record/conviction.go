package record

import (
	"net/netip"
	"slices"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Conviction is the evidence of a ban as it is kept under the ban's ref, and
// shown by weir why and weir bans.
type Conviction struct {
	Ref      ref.Ref      `json:"ref"`
	Peer     netip.Addr   `json:"peer"`
	Time     Time         `json:"time"`
	Reason   reply.Reason `json:"reason"`
	Enforced bool         `json:"enforced"`
	Left     smtp.Left    `json:"left,omitempty"` // why it is not enforced
	Tier     smtp.Tier    `json:"tier,omitempty"` // of the source
	Rule     string       `json:"rule"`
	Window   string       `json:"window,omitempty"` // "1h0m0s"
	Unknown  int          `json:"unknown"`          // distinct recipients
	Valid    int          `json:"valid"`
	Guesses  []string     `json:"guesses,omitempty"` // newest last, capped
}

func newConviction(r ref.Ref, peer netip.Addr, at time.Time, c smtp.Conviction, enforced bool) Conviction {
	e := &c.Evidence
	k := Conviction{
		Ref: r, Peer: peer.Unmap(), Time: Time{at}, Reason: c.Reason, Enforced: enforced, Left: c.Left, Tier: c.Tier,
		Rule: e.Rule, Unknown: e.Unknown, Valid: e.Valid, Guesses: slices.Clone(e.Guesses),
	}
	if e.Window > 0 {
		k.Window = e.Window.String()
	}
	return k
}
