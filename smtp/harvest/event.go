package harvest

import (
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// event is one answered RCPT with what is derived of it. It lives no longer
// than the call that reports it, on the stack.
type event struct {
	now     instant
	src     smtp.Source
	rcpt    rcpt
	to      string // lower case
	local   string // of to
	hash    uint64
	person  uint64 // hash of whom a good recipient is for: to without its tag
	null    bool
	source  *source
	domain  *domain
	visit   *visit
	lenient lenience

	keys     [2]key // of the networks of source, the narrowest first
	networks [2]*network
	wide     int // how many there are
}

// rcpt is what counts of a recipient: an event that pointed at all of it would
// not stay on the stack.
type rcpt struct {
	age    smtp.Age
	trap   bool
	reason reply.Reason
}

// begin fills in what is known of the recipient alone.
func (w *engine) begin(e *event, to string) {
	e.to = strings.ToLower(to)
	e.hash = w.hash(e.to)
	e.person = e.hash
	if plain := untagged(e.to); len(plain) != len(e.to) {
		e.person = w.hash(plain)
	}
	i := strings.LastIndexByte(e.to, '@')
	e.local = e.to[:max(0, i)]
	name := e.to[i+1:]
	if e.rcpt.reason == reply.Relaying { // not ours: it must not push out what is
		e.domain = &domain{name: name}
		return
	}
	e.domain = w.domain(name)
}

func (e *event) say(r reply.Reason) smtp.Advice { return smtp.Advice{Say: r} }

// named is what a recipient counts as.
func (e *event) named(k kind) uint64 {
	if k.good() {
		return e.person
	}
	return e.hash
}

// untagged is a mailbox without the tag that its owner may add (jane+shop@): to
// know one good address must not count as knowing as many as a guesser likes
// to make of it. Only the plus is a tag wherever it is one; a hyphen is more
// often part of a name.
func untagged(mailbox string) string {
	at := strings.LastIndexByte(mailbox, '@')
	if plus := strings.IndexByte(mailbox, '+'); plus > 0 && plus < at {
		return mailbox[:plus] + mailbox[at:]
	}
	return mailbox
}

// kindOf is what a recipient turned out to be; 0 where nothing was learnt, by
// nobody.
func kindOf(r *smtp.Recipient, null bool) kind {
	switch {
	case r.Oracle == smtp.Unknown || r.Trap:
		if null {
			return unknownNull
		}
		return unknown
	case r.Oracle == smtp.Valid:
		return valid // or validRole
	}
	return 0
}

// isRole says whether a local part is one of those that everybody knows to exist
// (RFC 2142), so that naming one shows no acquaintance, and that two name it
// nothing shared.
func isRole(local string) bool {
	switch local {
	case "postmaster", "abuse", "hostmaster", "webmaster", "info", "admin",
		"administrator", "contact", "support", "sales", "marketing", "noc",
		"security", "root", "mail", "office", "help", "billing", "hello",
		"team", "service", "noreply", "no-reply", "newsletter":
		return true
	}
	return false
}
