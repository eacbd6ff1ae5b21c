// Package address reads and writes the addresses of SMTP commands: paths,
// mailboxes, domains and address literals (RFC 5321 section 4.1.2, with the
// internationalised forms of RFC 6531).
//
// The parser is strict where laxness is an attack: brackets are needed, source
// routes are refused, and so are control characters and angle brackets inside
// a quoted local part, because a mail server behind us may read the address
// with a simpler parser than its sender did. What it returns is canonical:
// the local part is unquoted, the domain is in lower case and in A-labels
// (RFC 5890), so that two spellings of a mailbox compare equal; String quotes
// again where it must. Everything here is a pure function.
package address

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Limits of RFC 5321 section 4.5.3.1, in octets.
const (
	MaxLocal   = 64
	MaxDomain  = 255
	MaxPath    = 256         // with the brackets
	MaxMailbox = MaxPath - 2 // without them
)

// Mailbox is a canonical mailbox; Mailboxes are compared with ==.
type Mailbox struct {
	Local  string // without quotes, in the case that was given
	Domain string // lower case A-labels, or an address literal in brackets
}

// String writes m as it stands in a command, without angle brackets; a local
// part that is no dot-string is quoted.
func (m Mailbox) String() string {
	if m == (Mailbox{}) {
		return ""
	}
	return quote(m.Local) + "@" + m.Domain
}

// IsASCII says whether m can go to a server without SMTPUTF8 (RFC 6531).
func (m Mailbox) IsASCII() bool { return isASCII(m.Local) }

// Literal returns the address that the domain is a literal of, as in
// joe@[192.0.2.1].
func (m Mailbox) Literal() (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(m.Domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	inner = strings.TrimPrefix(strings.TrimSuffix(inner, "]"), "IPv6:")
	a, err := netip.ParseAddr(inner)
	return a, err == nil
}

// Path is what stands behind MAIL FROM: a mailbox, or nothing, which is the
// null path of bounces. The zero Path is the null path.
type Path struct{ Mailbox Mailbox }

// IsNull says whether p is the null path, <>.
func (p Path) IsNull() bool { return p.Mailbox == Mailbox{} }

// String writes p with its brackets.
func (p Path) String() string { return "<" + p.Mailbox.String() + ">" }

// Kind says what is wrong with an address, as far as replies tell it apart.
type Kind int

// The kinds of errors, with the replies of smtp-filter §7.
const (
	Syntax      Kind = iota // 501 5.1.3 for a recipient, 501 5.1.7 for a sender
	Unqualified             // no domain, <joe> or <joe@>: 550 5.1.3
	EightBit                // needs SMTPUTF8, which was not asked for: 553 5.6.7
)

// Error is a refused address.
type Error struct {
	Kind   Kind
	Detail string // fit for a reply: it never repeats what the client sent
}

func (e *Error) Error() string { return e.Detail }

func syntax(detail string) error { return &Error{Syntax, detail} }

// quote returns local as a dot-string if it is one, else as a quoted-string.
func quote(local string) string {
	if isDotString(local) {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(local) {
		if c := local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// isDotString follows the grammar of Dot-string (RFC 5321 section 4.1.2):
// atoms separated by single dots.
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if !isAtext(atom[i]) {
				return false
			}
		}
	}
	return true
}

// isAtext says whether c may stand in an Atom; octets of UTF-8 may
// (RFC 6531 section 3.3), whether they are allowed at all is seen elsewhere.
func isAtext(c byte) bool {
	return isAlnum(c) || c >= utf8.RuneSelf || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
