package smtp

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"mailweir/ref"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// Oracle says whether a recipient exists; smtp/relay has the one that asks.
type Oracle interface {
	// Verify answers within ctx. It has no error: what could not be learnt is
	// Unavailable, with the temporary reply to give.
	Verify(ctx context.Context, to address.Mailbox) Answer
}

// Answer is what an Oracle knows of one recipient.
type Answer struct {
	State OracleState
	Age   Age
	// Reply is what the client is told where it is refused: the backend's
	// temporary answer (recipient for now), 550 5.1.1, or 451 4.4.3.
	Reply  reply.Reply
	Reason reply.Reason
}

// Route is where mail of a domain goes. Two recipients with the same Name may
// share a transaction.
type Route struct {
	Name           string // of the first backend
	SMTPUTF8       bool   // the route can carry internationalised addresses
	MaxMessageSize int64  // bytes
	Oracle         Oracle
	Deliverer      Deliverer
}

// Router finds the route of a domain (lower case, A-labels); false: relaying.
type Router interface {
	Route(domain string) (Route, bool)
}

// Envelope is the SMTP envelope of one message (RFC 5321 section 2.3.1).
type Envelope struct {
	Ref        ref.Ref
	Peer       netip.Addr
	From       address.Path // the null path for <>
	To         []address.Mailbox
	EightBit   bool // BODY=8BITMIME was given
	SMTPUTF8   bool
	Size       int64
	Registered time.Time
	// Digest is the SHA-256 of the message without the trace header that this
	// hop added: two submissions of one message have the same Digest, though
	// their Ref and Received differ. With From and To it tells a retry.
	Digest [32]byte
}

// Deliverer hands a message over. Body is canonical (CRLF line ends, no dot
// stuffing, trace header included) and can be read again from its start.
type Deliverer interface {
	// Deliver returns the answer that is ours to give: 250 only when the
	// backend took the message for every recipient. Detail is kept in the
	// record and never shown to the client.
	Deliver(ctx context.Context, env Envelope, body io.ReadSeeker) Receipt
}

// Receipt is a Deliverer's answer.
type Receipt struct {
	Reply   reply.Reply // for the client
	Reason  reply.Reason
	Backend string // name of the backend
	Detail  string // the backend's own words

	// Heard, when set, is called once with whether the client is known to have
	// heard Reply: it went on speaking after it. A client that left instead
	// may send the message again.
	Heard func(bool)
}

// Watcher counts what sources do and says when one is convicted;
// smtp/harvest has the rules. Its methods never block.
type Watcher interface {
	// Recipient reports one answered RCPT. A conviction is returned once, by
	// the event that completes it.
	Recipient(now time.Time, src Source, r Recipient, nullSender bool) (Conviction, bool)
}

// Source is who did something, as far as the watcher looks at it.
type Source struct {
	Addr netip.Addr
	Tier Tier
	ASN  uint32
	Ref  ref.Ref // of the transaction
}

// Conviction says that a source earned a ban, and by what.
type Conviction struct {
	Reason   reply.Reason // reply.Harvest, reply.Trap, …
	Evidence Evidence
}

// Evidence is why a source was convicted: kept under the ref of the ban and
// shown by weir why.
type Evidence struct {
	Rule    string        `json:"rule"` // "unknown_per_hour"
	Window  time.Duration `json:"window"`
	Unknown int           `json:"unknown"` // distinct
	Valid   int           `json:"valid"`   // distinct
	Guesses []string      `json:"guesses"` // newest last, capped
}

// Offender files offences with guard. Offend never blocks for long: guard
// answers in well under a millisecond, and one that does not answer in 50 ms
// is an alarm, not a wait. nil: the ban stands in the kernel.
type Offender interface {
	Offend(ctx context.Context, conn *net.TCPConn, reason reply.Reason, r ref.Ref) error
}

// Gate knows who stands banned, for the times when no engine holds the kernel
// (and for the explain lane). Banned is asked once a connection and never
// blocks for long.
type Gate interface {
	Banned(addr netip.Addr) (Standing, bool)
}

// Standing is a ban that stands at the gate.
type Standing struct {
	Until   time.Time
	Ref     ref.Ref
	Explain bool // say so (554 5.7.1) before closing; else reset without a word
}

// Origins tells country and ASN of an address; zero values where unknown.
type Origins interface {
	Lookup(addr netip.Addr) (country string, asn uint32)
}

// Tiers says how well a source is known.
type Tiers interface {
	Tier(addr netip.Addr) Tier
}

// Recorder keeps transactions. Record never blocks on the disk.
type Recorder interface {
	// Announce keeps what is known of a transaction whose ref is about to be
	// said in a reply, the first time it is, and returns once that survives a
	// crash, or with ctx, or soon anyway. The Record with the same ref takes its
	// place. It keeps nothing of t that the session may go on changing.
	Announce(ctx context.Context, t Transaction)
	Record(Transaction)
	// Convicted keeps the evidence of a ban under its ref.
	Convicted(r ref.Ref, peer netip.Addr, at time.Time, c Conviction, enforced bool)
}
