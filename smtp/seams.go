package smtp

import (
	"context"
	"errors"
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

// Recaller is an Oracle that knows some recipients without asking anybody. What
// a client names that is refused for what it is, is looked up so: it costs the
// backend nothing, and who guesses is still counted.
type Recaller interface {
	Recall(to address.Mailbox) (Answer, bool)
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

// Traps knows the spamtraps: mailboxes that nobody was ever given.
type Traps interface{ Match(mailbox string) bool }

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
	// Complaint is what came of a message that was read as a complaint; "": it
	// was not for the mailbox that takes them.
	Complaint string
}

// Watcher counts what sources do and says when one is convicted;
// smtp/harvest has the rules. Its methods never block, and know no clock but
// the times they are given.
type Watcher interface {
	// Connected reports a connection. A conviction is that of a source which
	// was found out while it was away: a complaint, or others of its botnet.
	Connected(now time.Time, src Source) (Conviction, bool)
	// Recipient reports one RCPT command that is about to be answered, with the
	// reason (and reply) that the judges came to.
	Recipient(now time.Time, src Source, r Recipient, nullSender bool) Advice
	// Overturned takes back the conviction that Recipient just returned: the
	// directory of the domain, which said that its guesses are unknown, cannot
	// be believed.
	Overturned(now time.Time, src Source, domain string)
	// Tier is how well a source is known that came as given, by its history.
	Tier(now time.Time, addr netip.Addr, given Tier) Tier
	// History is what is remembered of a source; nil: nothing.
	History(now time.Time, addr netip.Addr) *History
	// Finished reports the end of a transaction: the history that trust is
	// made of.
	Finished(now time.Time, src Source, o Outcome, why reply.Reason)
}

// Advice is what a Watcher wants done about a recipient; the zero Advice is
// nothing.
type Advice struct {
	// Convicted says that this recipient completed Conviction, which is returned once.
	Convicted  bool
	Conviction Conviction
	// Say is the reason to answer with in place of the judges' ("": theirs):
	// reply.UnderAttack, which tells a guesser nothing, reply.TooManyUnknown,
	// which ends the session, or reply.OracleAway, for a directory that cannot
	// be believed.
	Say reply.Reason
	// Wait is how long the answer is held back.
	Wait time.Duration
	// Directory is what a canary said since the recipient of this domain before,
	// which counts from this one on. nil: there was none.
	Directory *Directory
}

// Source is who did something, as far as the watcher looks at it.
type Source struct {
	Addr    netip.Addr
	Tier    Tier // as the operator and the checks have it; what it earned, the watcher knows
	ASN     uint32
	HELO    string
	Ref     ref.Ref // of the transaction
	Session ref.Ref // of the connection
	// Vouched says that SPF passes for a host whose name is confirmed: then
	// somebody else may have signed a spamtrap up to its list.
	Vouched bool
	// Nameless says that reverse DNS has no name of a mail server for it: none,
	// one that leads elsewhere, or one that is made of its address.
	Nameless bool
	// Itself says that what it was refused for, if it was, is what it is, and not
	// what it brought.
	Itself bool
}

// Conviction says that a source earned a ban, and by what.
type Conviction struct {
	Reason   reply.Reason // reply.Harvest, reply.Trap, …
	Evidence Evidence
	// Spared says that nobody is to be banned for it: the source was known to
	// be good. The evidence is kept and an alarm stands; trust ends here.
	Spared bool
	// Tier is how well the source was known; the session says so, and Left.
	Tier Tier
	Left Left
}

// Left is why nobody was banned for a conviction.
type Left string

// The causes, in the order in which they are looked at.
const (
	LeftEnforced  Left = ""           // somebody was
	LeftProtected Left = "protected"  // the operator protects the source
	LeftKnownGood Left = "known_good" // the source was trusted, see Conviction.Spared
	LeftDirectory Left = "directory"  // the directory cannot be believed
	LeftObserve   Left = "observe"    // nothing is enforced
	LeftGuard     Left = "guard"      // guard did not take it; the next connection files it again
)

// Evidence is why a source was convicted: kept under the ref of the ban and
// shown by weir why.
type Evidence struct {
	Rule    string        `json:"rule"` // "unknown_per_hour"
	Window  time.Duration `json:"window"`
	Unknown int           `json:"unknown"` // distinct
	Valid   int           `json:"valid"`   // distinct
	Guesses []string      `json:"guesses"` // newest last, capped
}

// Canary knows whether a domain's directory means what it says. It is asked
// before a conviction for unknown recipients.
type Canary interface {
	// Sick says why it cannot be believed: it refuses a recipient that it is
	// known to have (said is Unknown), or nobody can ask it (Unavailable); else
	// said is Valid. It may ask the backend, within ctx.
	Sick(ctx context.Context, domain string) (why string, said OracleState)
}

// Offender files offences with guard. Offend never blocks for long: guard
// answers in well under a millisecond, and one that does not answer in 50 ms
// is an alarm, not a wait. nil: the ban stands in the kernel. ErrSpared: it never
// will, and nothing happens to the source. Any other error: guard is away, the
// source is refused here and the offence filed again at its next connection.
type Offender interface {
	Offend(ctx context.Context, conn *net.TCPConn, reason reply.Reason, r ref.Ref) error
}

// ErrSpared is what an Offender's error wraps where somebody protects the
// source from bans.
var ErrSpared = errors.New("the source is protected")

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
