package smtp

import (
	"net/netip"
	"strings"
	"time"

	"mailweir/ref"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// Facts is everything that was seen of one transaction (or of a session that
// had none). The session writes it; judges only read it, and the record keeps
// it as it was, so that any recorded day can be judged again. A fact that was
// not gathered is absent (nil, zero or ""), never guessed.
type Facts struct {
	Ref      ref.Ref   // of this transaction, in every refusal
	Session  ref.Ref   // of the connection
	Time     time.Time // when the transaction (else the connection) began
	Told     time.Time // when the watcher was told of it, see order; zero: it was not
	Peer     netip.Addr
	Listener netip.AddrPort

	Country string // ISO 3166-1 alpha-2
	ASN     uint32
	Tier    Tier

	Provider string   // whose set of networks Peer is in; "": none's, or the operator blocks it by a narrower entry
	History  *History // what Peer did before; nil: nothing is remembered of it

	Policy string // Policy.ID under which the session was judged

	RDNS  *RDNS     // what reverse DNS says of Peer; nil: not gathered
	Lists []Listing // answers of DNS lists

	HELO     string
	HELOName HELOName // what HELO resolves to; "": not gathered
	TLS      string   // "TLS1.3"; "" in clear
	Slips    []string // protocol slips in order of first sight, see wire.Slip

	MailFrom *string // as given, without brackets; "" is the null sender, nil means no MAIL
	MailForm Form    // of MailFrom
	Declared int64   // SIZE= of MAIL (RFC 1870); 0: not declared
	Limit    int64   // bytes that policy and the recipients' routes allow
	Sender   SenderDomain
	SPF      string // result as in RFC 7208 section 2.6; "": not gathered
	SPFWide  bool   // SPF passes for the neighbour of Peer's /16 (IPv6: /32) too, and so vouches for nobody
	Authentication
	Rcpts     []Recipient
	Size      int64 // bytes of the message as received
	Hops      int   // Received headers that it came with
	MessageID string

	Backend      string // name of the backend that the message was handed to
	BackendReply string // its answer
}

// History is what is remembered of a source.
type History struct {
	Mails     int  `json:"mails,omitempty"` // that were accepted
	Days      int  `json:"days,omitempty"`  // on which there were some
	Good      int  `json:"good,omitempty"`  // recipients that exist
	Bad       int  `json:"bad,omitempty"`   // recipients that do not
	Convicted bool `json:"convicted,omitempty"`
}

// Recipient is one RCPT command and what became of it.
type Recipient struct {
	At     time.Duration // since Facts.Time
	Told   time.Time     // when the watcher was told of it, see order; zero: it was not
	To     string        // canonical mailbox, or the argument as given where it is none
	Form   Form          // of the argument; "" is a good mailbox
	Route  string        // name of the domain's route; "" where it has none
	Oracle OracleState   // "" when not asked
	Age    Age           // how fresh the oracle's answer was
	// Canary is what the directory said of a recipient that it is known to have,
	// before a conviction that this recipient would have completed: Unknown or
	// Unavailable, so that nobody was convicted. "": it was not asked, or well.
	Canary OracleState
	// Directory is what a canary said since the recipient of this domain before.
	Directory *Directory
	Trap      bool
	Listed    *access.Entry // the operator's word that counts for it; nil: none
	Grey      *Grey         // what the greylist said; nil: it was not asked
	Reply     reply.Reply   // as written to the wire
	Reason    reply.Reason

	// Answer is what the oracle would have the client hear; the record does
	// not keep it, since Reply is what the client did hear.
	Answer Answer
}

// domain is that of the mailbox, lower case.
func (r *Recipient) domain() string {
	return strings.ToLower(r.To[strings.LastIndexByte(r.To, '@')+1:])
}

// Directory is what a canary said of a domain's directory: that a recipient whom it
// is known to have was taken (Valid) or refused (Unknown), and when.
type Directory struct {
	Said OracleState
	At   time.Time
}

// Grey is what the greylist had to say of a recipient when it was named.
type Grey struct {
	State greylist.State
	Since time.Time     // the first contact that counts
	Left  time.Duration // until a retry passes
}

// OfSender says that the operator's word which counts for it is about the sender.
func (r *Recipient) OfSender() bool {
	return r.Listed != nil && (r.Listed.Subject.Kind == access.From || r.Listed.Subject.Kind == access.To)
}

// Form says what is wrong with the argument of MAIL or RCPT.
type Form string

// The forms that are refused.
const (
	GoodForm    Form = ""
	BadSyntax   Form = "syntax"      // no RFC 5321 path
	Unqualified Form = "unqualified" // a local part without a domain
	Needs8Bit   Form = "utf8"        // internationalised, and SMTPUTF8 was not said or the route has none
)

// OracleState is what the oracle knows of a recipient.
type OracleState string

// The states of a recipient.
const (
	Valid       OracleState = "valid"
	Unknown     OracleState = "unknown"     // a clear, counted no
	Any         OracleState = "any"         // the route takes every recipient
	Unavailable OracleState = "unavailable" // nobody could say: 451, counts nothing
)

// Age says whether an oracle's answer was fetched for this recipient or kept.
type Age string

// The ages of an answer.
const (
	Live   Age = "live"
	Cached Age = "cached"
)

// Tier is how well we know a source.
type Tier string

// The tiers, best first.
const (
	Protected Tier = "protected" // the operator named it: never banned
	Provider  Tier = "provider"  // one of a large provider's hosts, which many share: never banned, see Facts.Provider
	Trusted   Tier = "trusted"
	Known     Tier = "known"
	New       Tier = "new"
	Suspect   Tier = "suspect"
)

// Stranger says whether a source of this tier has nobody's word, nor a good past.
func (t Tier) Stranger() bool { return t == New || t == Suspect }

// Outcome is what became of a transaction.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "accepted" // the backend said 250
	Spooled  Outcome = "spooled"  // on our disk, synced
	Deferred Outcome = "deferred"
	Rejected Outcome = "rejected"
	Dropped  Outcome = "dropped" // the kernel, or the gate in its place
	Aborted  Outcome = "aborted" // the client left
)

// Transaction is Facts and what we made of them: what a record is written from.
type Transaction struct {
	Facts   Facts
	Checks  []Check
	Score   float64
	Outcome Outcome
	Reason  reply.Reason
	Reply   reply.Reply // the one that decided the outcome, as written to the wire; zero where none did
	Took    time.Duration
	Told    time.Time // when the watcher was told of the end, see order; zero: it was not
}

// Check is one judge's verdict as the record keeps it. Ms has the look-ups that
// it waited for.
type Check struct {
	Name   string       `json:"name"`
	Action reply.Action `json:"action"`
	Score  float64      `json:"score"`
	Detail string       `json:"detail"`
	// Reason is that of a verdict that only told: there is no refusal to have it.
	Reason reply.Reason `json:"reason,omitempty"`
	Ms     float64      `json:"ms"`
}

// Verdict is what a judge says of the facts.
type Verdict struct {
	Action reply.Action
	Reply  reply.Reply
	Reason reply.Reason
	Score  float64
	Detail string

	// Itself says that a refusal is of the source, by what it is, whatever it
	// brings: a forwarder is not to pay for SPF and senders of what it passes on.
	Itself bool
}

// Judge is one check: a pure function of the facts (and of the policy that it
// was made with).
type Judge interface{ Judge(f *Facts) Verdict }

// Link is one judge of a chain, under the name by which the record's checks,
// [checks.set] and the manual know it.
type Link struct {
	Name  string
	Judge Judge
}
