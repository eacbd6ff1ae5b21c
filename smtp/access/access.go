// Package access is the operator's lists: who is let in and who is refused by
// what he is, whatever the checks would say.
//
//	192.0.2.0/24          a client's address
//	rdns:example.com      the confirmed name of its address
//	helo:example.com      what it calls itself
//	from:jane@example.com the sender; from:example.com the sender's domain
//	to:jane@example.com   a recipient, or a domain: only to block
//
// A domain means itself and all below it. An entry holds for everybody, for one
// of our domains, or for one recipient; for a while or until it is removed; and
// it keeps who made it, when and why.
//
// Where several entries match, the one for the fewest recipients counts; among
// those of one kind the narrowest; and else it is better to let in than to refuse.
package access

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Action is what an entry does.
type Action string

// The actions.
const (
	Allow Action = "allow"
	Block Action = "block"
)

// Kind is what of a client an entry looks at.
type Kind string

// The kinds.
const (
	Address Kind = "addr"
	RDNS    Kind = "rdns"
	HELO    Kind = "helo"
	From    Kind = "from"
	To      Kind = "to"
)

// Entry is one line of the lists.
type Entry struct {
	Action  Action    `json:"action"`
	Subject Subject   `json:"subject"`
	To      string    `json:"to,omitempty"` // a mailbox or domain of ours; "": everybody
	Time    time.Time `json:"time,omitzero"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is removed
	Author  string    `json:"author,omitempty"`
	Why     string    `json:"why,omitempty"`
	// Forgeable says that a sender lets in though SPF does not prove him: whoever
	// knows of it can write his name.
	Forgeable bool `json:"forgeable,omitempty"`
	// Feed is the one that has the subject; "": the operator wrote the entry. Bans
	// says that whoever a feed blocks earns a ban when it speaks.
	Feed string `json:"feed,omitempty"`
	Bans bool   `json:"bans,omitempty"`
}

// Subject is who is meant.
type Subject struct {
	Kind   Kind
	Prefix netip.Prefix // of Address
	Name   string       // else: a domain, lower case, A-labels; or a mailbox
}

// ParseSubject reads a subject as the package comment has them; @example.com and
// jane@example.com are senders too. Its errors say what to write.
func ParseSubject(s string) (Subject, error) {
	s = strings.TrimSpace(s)
	if p, ok := ParsePrefix(s); ok {
		return Subject{Kind: Address, Prefix: p}, nil
	}
	kind, name, named := strings.Cut(s, ":")
	switch {
	case !named && strings.Contains(s, "@"):
		kind, name = string(From), strings.TrimPrefix(s, "@")
	case !named:
		return Subject{}, fmt.Errorf("%q is no address: write rdns:%s for the name of a client, helo:%s for what it says, or from:%s for senders", s, s, s, s)
	}
	k := Kind(strings.ToLower(kind))
	switch k {
	case RDNS, HELO, From, To:
	default:
		return Subject{}, fmt.Errorf("%q is no subject: write an address, or rdns:, helo:, from: or to: with a name", s)
	}
	name, err := Name(name)
	if err == nil && strings.Contains(name, "@") && (k == RDNS || k == HELO) {
		err = fmt.Errorf("%q is a mailbox, and a host has none: write %s:%s", name, k, name[strings.LastIndexByte(name, '@')+1:])
	}
	return Subject{Kind: k, Name: name}, err
}

// ParsePrefix reads an address or a prefix, whose host bits are cleared.
func ParsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, false
	}
	return p.Masked(), true
}

// Name is a domain, or a mailbox, in the form in which it is compared.
func Name(s string) (string, error) {
	s = strings.Trim(strings.ToLower(strings.TrimSpace(s)), "<>")
	at := strings.LastIndexByte(s, '@')
	domain, err := idna.Lookup.ToASCII(strings.TrimPrefix(strings.TrimSuffix(s[at+1:], "."), "."))
	if err != nil || domain == "" || at == 0 || slices.Contains(strings.Split(domain, "."), "") {
		return "", fmt.Errorf("%q is neither a domain nor a mailbox: write example.com or jane@example.com", s)
	}
	return s[:at+1] + domain, nil
}

// String is what ParseSubject reads.
func (s Subject) String() string {
	if s.Kind != Address {
		return string(s.Kind) + ":" + s.Name
	}
	if s.Prefix.IsSingleIP() {
		return s.Prefix.Addr().String()
	}
	return s.Prefix.String()
}

// MarshalText writes a subject as String does.
func (s Subject) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a subject as ParseSubject does.
func (s *Subject) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSubject(string(b))
	return err
}

// Query is a client, as far as it is known, and one recipient.
type Query struct {
	Peer     netip.Addr
	RDNS     string // confirmed; "": none
	HELO     string
	HELOTrue bool   // HELO resolves to Peer: one that does not is let in by nothing
	Sender   string // "": the null sender, or none yet
	Forged   bool   // SPF says fail: the sender is not who he says, and lets nobody in
	Unproven bool   // SPF says less than pass: an entry that does not want more lets nobody in by him
	To       string // "": none yet
}

// Told is an entry as the operator reads it in a record.
func (e Entry) Told() string {
	s := string(e.Action) + " " + e.Subject.String()
	if e.To != "" {
		s += " for " + e.To
	}
	if e.Forgeable {
		s += " (forgeable)"
	}
	if e.Feed != "" {
		s += " by feed." + e.Feed
	}
	if e.Author != "" {
		s += " by " + e.Author
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	return s
}

// over says that an entry holds no more.
func (e *Entry) over(now time.Time) bool { return !e.Until.IsZero() && !e.Until.After(now) }

// holds says whether an entry whose subject matches is one for the query.
func (e *Entry) holds(q *Query, now time.Time) bool {
	switch {
	case e.over(now):
		return false
	case e.Action == Allow && (e.Subject.Kind == HELO && !q.HELOTrue || e.Subject.Kind == From && (q.Forged || q.Unproven && !e.Forgeable)):
		return false
	}
	return e.To == "" || e.To == q.To || e.To == DomainOf(q.To)
}

// DomainOf is the domain of a mailbox, or a domain itself.
func DomainOf(mailbox string) string { return mailbox[strings.LastIndexByte(mailbox, '@')+1:] }

// scope is for how few recipients an entry is.
func (e *Entry) scope() int {
	switch {
	case e.Subject.Kind == To || strings.Contains(e.To, "@"):
		return 2
	case e.To != "":
		return 1
	}
	return 0
}

// width is how narrow a subject is among those of its kind.
func (s *Subject) width() int {
	if s.Kind == Address {
		return s.Prefix.Bits()
	}
	labels := strings.Count(DomainOf(s.Name), ".")
	if strings.Contains(s.Name, "@") {
		labels += 1000
	}
	return labels
}

// weightier says whether e counts rather than other.
func (e *Entry) weightier(other *Entry) bool {
	c := cmp.Compare(e.scope(), other.scope())
	if c == 0 && e.Subject.Kind == other.Subject.Kind {
		c = cmp.Compare(e.Subject.width(), other.Subject.width())
	}
	return c > 0 || c == 0 && e.Action == Allow && other.Action != Allow
}
