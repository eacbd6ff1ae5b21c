// Package wire is the connection as SMTP sees it: a net.Conn that stands in
// front of one go-smtp Server and corrects what that library has no hook for.
//
//	client ── bytes ──► Conn ── one good command at a time ──► go-smtp ──► session
//	client ◄── bytes ── Conn ◄──────── its replies ─────────── go-smtp ◄── session
//
// Conn frames lines and knows the state of the dialogue in both directions:
// commands, the body behind DATA, the chunk behind BDAT. It hands go-smtp a
// command only when that command is well formed and in order, re-written in
// the one form which go-smtp reads right; every other command it answers by
// itself, after Events had its say, so that no refusal leaves without a ref.
// It owns every deadline and limit, terminates TLS (go-smtp's TLSConfig stays
// nil), writes the EHLO reply, and counts the client's slips.
//
// The two move in lockstep: Read returns one command, or a piece of one body,
// and is not called again before go-smtp has answered what it got. So replies
// leave in the order of their commands, though two parties make them, and a
// client may pipeline (RFC 2920). Replies to pipelined commands are held back
// and leave in one packet.
//
// The end of data is CRLF . CRLF and nothing else (RFC 5321 section 4.1.1.4).
// Bare LF and bare CR are made line ends, or refused by policy, after the end
// has been looked for, and dots are stuffed again: what a server behind us may
// take for an end of data can then never be inside a message. Inside BDAT,
// where nothing may be changed, they are refused. go-smtp sees every message as
// DATA, so the session's Data runs in the goroutine of its other methods.
//
// The first read error, timeout or final reply makes a Conn dead for good:
// Read and SetReadDeadline return net.ErrClosed from then on, so that go-smtp
// can never take the rest of a body for commands.
//
// Use: New, Gate to watch for early talk, Greet, then Converse until it fails;
// when it says that go-smtp is wanted, first Serve of a go-smtp Server on a
// listener that returns the Conn once, to its end. The Server's limits stay off
// (MaxLineLength 0, MaxRecipients 0, MaxMessageBytes 0), its ReadTimeout must
// not be zero, and EnableSMTPUTF8 is true: what is offered, Config says.
package wire

import (
	"crypto/tls"
	"slices"
	"time"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// Command is one command line of the client.
type Command struct {
	Verb string // upper case; "" where the client has said nothing: greeting, timeout
	Arg  string // as it was sent, without the spaces around it

	// Early says that the client sent it before we answered the message before
	// it, so that it proves nothing of whether that answer was heard: Postfix
	// sends QUIT along with the final dot.
	Early bool
}

// Slip is a breach of the protocol that does not by itself end a session.
type Slip string

// The slips. A slip in a body is reported once a message.
const (
	EarlyTalk      Slip = "early_talk"      // bytes before our greeting
	Pipelining     Slip = "pipelining"      // bytes before their turn (RFC 2920 section 3.1)
	BareLF         Slip = "bare_lf"         // LF without CR, in a command or a body
	BareCR         Slip = "bare_cr"         // CR without LF
	BadOrder       Slip = "bad_order"       // a command before its turn
	BadSyntax      Slip = "bad_syntax"      // a known command that does not parse
	LongLine       Slip = "long_line"       // over MaxCommandLine or MaxBodyLine
	UnknownCommand Slip = "unknown_command" //
	AuthAttempt    Slip = "auth"            // AUTH, which is not offered
	TLSInjection   Slip = "tls_injection"   // plaintext behind STARTTLS (CVE-2011-0411)
	TLSFailed      Slip = "tls_failed"      // the handshake; Cause has the error
	NotSMTP        Slip = "not_smtp"        // HTTP, TLS or message headers as commands
)

// Events is what a Conn tells and asks its session. The methods are called one
// at a time, by the goroutine that serves the connection, and must not call
// back into the Conn's Read or Write.
type Events interface {
	// Refuse is asked before every reply of 400 or more that wire makes by
	// itself, and returns what to write: the session adds its ref.
	Refuse(reason reply.Reason, cmd Command, r reply.Reply) reply.Reply
	// Replied reports every reply as it was written, whoever made it, in order;
	// of a multi-line reply the first line.
	Replied(cmd Command, r reply.Reply)
	// Slip reports a breach of the protocol.
	Slip(s Slip)
}

// Sizes that are the same for everybody, in octets with their CRLF.
const (
	MaxCommandLine = 2048    // RFC 5321 section 4.5.3.1.4 asks for 512 and more with extensions
	MaxBodyLine    = 1 << 16 // section 4.5.3.1.6 asks for 1000; senders of one-line HTML exceed it
)

// Config is what a Conn takes. A limit or timeout that is zero has the value of
// Defaults.
type Config struct {
	Hostname   string          // how we answer EHLO and HELO
	Postmaster address.Mailbox // whom RCPT TO:<Postmaster> means; zero: postmaster@Hostname
	TLS        *tls.Config     // nil: STARTTLS is not offered
	Hide       []string        // extensions of EHLO not to offer: "SMTPUTF8", "CHUNKING", …

	MaxMessageSize int64 // octets of a body
	MaxErrors      int   // refusals of wire's own making; the next one ends the session
	MaxJunk        int   // commands in a row that bring no mail on: NOOP, RSET, VRFY, HELP, EHLO, …
	RefuseBareEnds bool  // refuse a body with bare LF or CR, instead of making line ends of them

	Timeouts Timeouts
}

// Timeouts are the patience of a Conn (RFC 5321 section 4.5.3.2). They are
// deadlines of the connection, so its clock is the clock.
type Timeouts struct {
	Command   time.Duration // for one whole command line
	Handshake time.Duration // for TLS
	DataIdle  time.Duration // between two reads of a body
	DataTotal time.Duration // for one body
	Session   time.Duration // after it no further command is read
	Write     time.Duration // for the client to take our replies
	MinRate   int           // octets a second of a body, once RateGrace has passed
	RateGrace time.Duration
}

// Defaults are the limits and timeouts of a Conn whose Config has none.
var Defaults = Config{
	MaxMessageSize: 50 << 20,
	MaxErrors:      10,
	MaxJunk:        100,
	Timeouts: Timeouts{
		Command:   5 * time.Minute,
		Handshake: time.Minute,
		DataIdle:  3 * time.Minute,
		DataTotal: time.Hour,
		Session:   30 * time.Minute,
		Write:     time.Minute,
		MinRate:   256,
		RateGrace: 5 * time.Minute, // longer than DataIdle, which RFC 5321 section 4.5.3.2.5 sets
	},
}

func orDefault[T comparable](v *T, def T) {
	if *v == *new(T) {
		*v = def
	}
}

// withDefaults returns cfg with every zero limit filled in.
func (cfg Config) withDefaults() Config {
	orDefault(&cfg.Postmaster, address.Mailbox{Local: "postmaster", Domain: cfg.Hostname})
	orDefault(&cfg.MaxMessageSize, Defaults.MaxMessageSize)
	orDefault(&cfg.MaxErrors, Defaults.MaxErrors)
	orDefault(&cfg.MaxJunk, Defaults.MaxJunk)
	t, d := &cfg.Timeouts, Defaults.Timeouts
	orDefault(&t.Command, d.Command)
	orDefault(&t.Handshake, d.Handshake)
	orDefault(&t.DataIdle, d.DataIdle)
	orDefault(&t.DataTotal, d.DataTotal)
	orDefault(&t.Session, d.Session)
	orDefault(&t.Write, d.Write)
	orDefault(&t.MinRate, d.MinRate)
	orDefault(&t.RateGrace, d.RateGrace)
	return cfg
}

func (cfg *Config) offers(extension string) bool {
	return !slices.Contains(cfg.Hide, extension)
}
