package reply

// Action is what a judge wants done.
type Action string

// The actions, mildest first.
const (
	Pass   Action = "pass"
	Log    Action = "log" // recorded with what would have happened
	Defer  Action = "defer"
	Reject Action = "reject"
	Drop   Action = "drop" // refuse, close, and report to the firewall
)

// Reason is the countable name of a verdict: the same word in reply table,
// log, metric, record, ban and manual. The words are a contract with whoever
// reads records: add, never rename.
type Reason string

// Reasons that concern the connection.
const (
	Banned        Reason = "banned"          // the source stands banned (where the kernel does not drop it)
	Blocked       Reason = "blocked"         // the operator's list has the client's address
	Concurrency   Reason = "concurrency"     // too many open connections of one source
	Rate          Reason = "rate"            // too many new connections of one source
	Overload      Reason = "overload"        // too many open connections in all
	Shutdown      Reason = "shutdown"        // we are stopping
	Maintenance   Reason = "maintenance"     // the operator closed the door for a while
	Timeout       Reason = "timeout"         // the client was silent, or slower than its deadline
	TooManyErrors Reason = "too_many_errors" // of the client, in one session
	TooLong       Reason = "too_long"        // the session lasted longer than one may
	NotSMTP       Reason = "not_smtp"        // HTTP, or headers sent as commands
	EarlyTalk     Reason = "early_talk"      // spoke before our greeting
	Pipelining    Reason = "pipelining"      // sent commands before their turn
	BareLineEnds  Reason = "bare_line_ends"  // LF or CR alone
	CommandOrder  Reason = "command_order"   // had commands out of order
	Geo           Reason = "geo"             // country or network, by policy
	Feed          Reason = "feed"            // a feed has the client's address, and bans
	History       Reason = "history"         // what the source did before
	Score         Reason = "score"           // the sum of the checks
)

// Reasons that concern names: of the client's address, of itself, and lists
// that have either.
const (
	RDNSMissing      Reason = "rdns_missing"
	RDNSError        Reason = "rdns_error"
	RDNSMismatch     Reason = "rdns_mismatch"
	RDNSGeneric      Reason = "rdns_generic"
	RDNSGenericCC    Reason = "rdns_generic_cc"
	RDNSDynamic      Reason = "rdns_dynamic"
	DNSBL            Reason = "dnsbl" // an address list
	RHSBL            Reason = "rhsbl" // a domain list
	HELOOurs         Reason = "helo_ours"
	HELOAddress      Reason = "helo_address" // an address without brackets
	HELOLiteral      Reason = "helo_literal" // an address of somebody else
	HELOUnresolvable Reason = "helo_unresolvable"
)

// Reasons that concern the sender.
const (
	SenderNXDomain    Reason = "sender_nxdomain"
	SenderNullMX      Reason = "sender_null_mx"
	SenderNoMX        Reason = "sender_no_mx"
	SenderDomainError Reason = "sender_domain_error"
	SenderIsRecipient Reason = "sender_is_recipient"
	SenderLocal       Reason = "sender_local"   // of a domain that we serve
	BlockedName       Reason = "blocked_name"   // the operator's list has the client's name
	BlockedSender     Reason = "blocked_sender" // the operator's list has the sender
	SPFFail           Reason = "spf_fail"
	SPFSoftfail       Reason = "spf_softfail"
	SPFTemperror      Reason = "spf_temperror"
	SPFPermerror      Reason = "spf_permerror"
)

// Reasons that concern who a message says wrote it.
const (
	DKIMFail        Reason = "dkim_fail"
	DMARCReject     Reason = "dmarc_reject"     // fails, and its domain wants such mail refused
	DMARCQuarantine Reason = "dmarc_quarantine" // fails, and its domain wants such mail set aside
	DMARCTemperror  Reason = "dmarc_temperror"
	NoAuthor        Reason = "no_author" // not one From field with one domain
)

// Reasons that concern a command.
const (
	Syntax         Reason = "syntax"          // a line that is no command, or a wrong argument
	LineTooLong    Reason = "line_too_long"   // a command line over the limit
	UnknownCommand Reason = "unknown_command" // one we do not serve
	Order          Reason = "order"           // a command before its turn
	HELOSyntax     Reason = "helo_syntax"
	Auth           Reason = "auth"        // AUTH, which we never offer
	AuthFailed     Reason = "auth_failed" // a guess at a password
	TLSRequired    Reason = "tls_required"
	TLSFailed      Reason = "tls_failed" // the handshake after STARTTLS
)

// Reasons that concern the envelope.
const (
	SenderSyntax         Reason = "sender_syntax"
	RecipientSyntax      Reason = "recipient_syntax"
	UnqualifiedRecipient Reason = "unqualified_recipient" // <joe>, <joe@>
	UTF8                 Reason = "utf8"                  // an internationalised address where the route has none
	Relaying             Reason = "relaying"              // a domain that we do not serve
	UnknownUser          Reason = "unknown_user"
	Harvest              Reason = "harvest"          // guessed addresses: the recipient that convicted
	Trap                 Reason = "trap"             // wrote to a spamtrap
	Persistence          Reason = "persistence"      // went on after being refused
	Complaint            Reason = "complaint"        // recipients complained, and proved it
	RelayProbe           Reason = "relay_probe"      // tried several foreign domains
	TooManyUnknown       Reason = "too_many_unknown" // recipients in one session, which ends
	UnderAttack          Reason = "under_attack"     // the domain is being guessed at, and a stranger is told nothing
	TooManyRecipients    Reason = "too_many_recipients"
	Greylisted           Reason = "greylist"          // a first contact, which has to come again
	OtherRoute           Reason = "other_route"       // a second route in one transaction
	BounceRecipients     Reason = "bounce_recipients" // a second recipient of the null sender
	OracleAway           Reason = "oracle_away"       // nobody can say whether the recipient exists
	RecipientForNow      Reason = "recipient_for_now" // the backend refuses the recipient for the time being
	BlockedRecipient     Reason = "blocked_recipient" // the operator's list has the recipient
	HeldRecipient        Reason = "held_recipient"    // the same, for a while
	MailboxDisabled      Reason = "mailbox_disabled"  // the backend knows the recipient and takes nothing for it
	NoRecipients         Reason = "no_recipients"
)

// Reasons that concern the message and its delivery.
const (
	Size                 Reason = "size"
	LineEnds             Reason = "line_ends" // bare LF or CR where it cannot be mended
	Loop                 Reason = "loop"
	DiskFull             Reason = "disk_full"
	BackendAway          Reason = "backend_away"
	BackendThrottled     Reason = "backend_throttled"
	MisconfiguredBackend Reason = "misconfigured_backend" // it refuses us, not the message
	RecipientChanged     Reason = "recipient_changed"     // good at RCPT, refused at delivery
	MessageRefused       Reason = "message_refused"       // by the backend, after the data
	NotAReport           Reason = "not_a_report"          // to a mailbox in which only complaints are read
	Internal             Reason = "internal"              // our own fault
)
