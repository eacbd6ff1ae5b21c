package address

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// CutReversePath reads the path of MAIL, <> or <mailbox>, at the start of s and
// returns what follows it (the parameters). A sender's local part may be longer
// than MaxLocal, as long as the path is not longer than MaxPath: addresses made
// by forwarders (SRS) and list servers (VERP) often are, and RFC 5321 section
// 4.5.3.1 asks not to refuse them for it.
func CutReversePath(s string, smtputf8 bool) (p Path, rest string, err error) {
	if rest, ok := strings.CutPrefix(s, "<>"); ok {
		return Path{}, rest, nil
	}
	p.Mailbox, rest, err = cutPath(s, MaxMailbox, smtputf8)
	return p, rest, err
}

// CutForwardPath reads the path of RCPT, <mailbox>, at the start of s and
// returns what follows it. The error of a path without a domain is of kind
// Unqualified, and the Mailbox then has its local part: the caller knows whose
// <Postmaster> it is (RFC 5321 section 4.5.1).
func CutForwardPath(s string, smtputf8 bool) (m Mailbox, rest string, err error) {
	return cutPath(s, MaxLocal, smtputf8)
}

// ParsePath reads a whole path, <> or <mailbox>.
func ParsePath(s string, smtputf8 bool) (Path, error) {
	p, rest, err := CutReversePath(s, smtputf8)
	if err == nil && rest != "" {
		return Path{}, syntax("something follows the path")
	}
	return p, err
}

// ParseMailbox reads a whole mailbox without brackets, as it stands in files,
// on the command line, and in Mailbox.String.
func ParseMailbox(s string, smtputf8 bool) (Mailbox, error) {
	m, rest, err := cutMailbox(s, MaxLocal, smtputf8)
	if err == nil && rest != "" {
		return Mailbox{}, syntax("something follows the mailbox")
	}
	return m, err
}

// ParseUnquoted reads a mailbox whose local part somebody has unquoted already,
// as go-smtp hands it to Session.Mail and Session.Rcpt: all before the last @
// is the local part. Its local part may be as long as that of a sender.
func ParseUnquoted(s string) (Mailbox, error) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return Mailbox{}, &Error{Unqualified, "the address has no domain"}
	}
	m, rest, err := cutMailbox(quote(s[:i])+s[i:], MaxMailbox, true)
	if err == nil && rest != "" {
		return Mailbox{}, syntax("something follows the mailbox")
	}
	return m, err
}

func cutPath(s string, maxLocal int, smtputf8 bool) (Mailbox, string, error) {
	s, ok := strings.CutPrefix(s, "<")
	if !ok {
		return Mailbox{}, "", syntax("the address needs angle brackets")
	}
	if strings.HasPrefix(s, "@") {
		// RFC 5321 section 4.1.1.3 lets a server ignore or refuse source
		// routes; nobody but relay testers sends them.
		return Mailbox{}, "", syntax("source routes are not accepted")
	}
	m, rest, err := cutMailbox(s, maxLocal, smtputf8)
	if err != nil && m.Local == "" {
		return Mailbox{}, "", err
	}
	rest, ok = strings.CutPrefix(rest, ">")
	if !ok {
		return Mailbox{}, "", syntax("the address has no closing bracket")
	}
	return m, rest, err
}

// cutMailbox reads Local-part "@" ( Domain / address-literal ) up to the first
// octet that cannot belong to it. Of an unqualified mailbox it returns the
// local part with the error.
func cutMailbox(s string, maxLocal int, smtputf8 bool) (m Mailbox, rest string, err error) {
	m.Local, rest, err = cutLocal(s)
	if err != nil {
		return Mailbox{}, "", err
	}
	if err := checkLocal(m.Local, maxLocal, smtputf8); err != nil {
		return Mailbox{}, "", err
	}
	domain, rest := cutDomain(rest)
	if domain == "" || domain == "@" {
		return m, rest, &Error{Unqualified, "the address has no domain"}
	}
	m.Domain, err = ParseDomain(domain[1:], smtputf8)
	if err != nil {
		return Mailbox{}, "", err
	}
	if len(m.String()) > MaxMailbox {
		return Mailbox{}, "", syntax("the address is too long")
	}
	return m, rest, nil
}

// cutLocal reads a Dot-string or a Quoted-string and returns it unquoted.
func cutLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s[1:])
	}
	end := 0
	for end < len(s) && (isAtext(s[end]) || s[end] == '.') {
		end++
	}
	if !isDotString(s[:end]) {
		return "", "", syntax("the local part is malformed")
	}
	return s[:end], s[end:], nil
}

func cutQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && b.Len() == 0:
			return "", "", syntax("the local part is empty")
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s) && s[i+1] < utf8.RuneSelf:
			i++
			b.WriteByte(s[i])
		case c == '\\':
			return "", "", syntax("the local part has a stray backslash")
		default:
			b.WriteByte(c)
		}
	}
	return "", "", syntax("the local part has no closing quote")
}

// checkLocal refuses what no grammar lets into a local part, and what a simpler
// parser behind us would take for the end of the address.
func checkLocal(local string, maxLocal int, smtputf8 bool) error {
	switch {
	case !smtputf8 && !isASCII(local):
		return &Error{EightBit, "the address needs SMTPUTF8"}
	case !utf8.ValidString(local):
		return syntax("the local part is not UTF-8")
	case strings.ContainsFunc(local, unicode.IsControl):
		return syntax("the local part has a control character")
	case strings.ContainsAny(local, "<>"):
		return syntax("the local part has an angle bracket")
	case len(local) > maxLocal:
		return syntax("the local part is too long")
	}
	return nil
}
