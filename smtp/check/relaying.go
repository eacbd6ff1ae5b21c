package check

import (
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Relaying refuses a recipient whose domain has no route (R-BW-E17), and one
// whose local part names another hop. Nobody is exempt: this release sends
// nothing outwards.
//
// victim%elsewhere@ours, elsewhere!victim@ours and "victim@elsewhere"@ours are
// well-formed mailboxes of ours. But Postfix and Sendmail, where the domain is
// a local one, read them again, say yes to the foreign recipient that they
// find, since they trust us, and relay to it. What such an address means is
// theirs to say (RFC 5321 section 2.3.11), so nobody but us can stop it here.
type Relaying struct{}

// hops are what source routes inside a local part are written with: the percent
// hack, UUCP's bang path, and a second @ in quotes.
const hops = "%!@"

// Judge implements smtp.Judge.
func (Relaying) Judge(f *smtp.Facts) smtp.Verdict {
	r := last(f)
	switch {
	case r == nil:
		return pass
	case r.Route == "" && !r.Trap: // a domain of traps needs no route
		return refuse(reply.Relaying, r.To)
	case strings.ContainsAny(r.To[:max(0, strings.LastIndexByte(r.To, '@'))], hops):
		return refuse(reply.Relaying, r.To+" names another hop")
	}
	return pass
}
