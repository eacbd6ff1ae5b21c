package smtp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mailweir/smtp/address"
)

// received is the trace field that this hop adds (RFC 5321 section 4.4). It is
// folded like everybody's, and names a recipient only where there is no other
// whose address it would give away. The seal proves to us, when the message is
// shown again, that it came this way: the ref alone the sender knows too.
func (s *session) received(t *transaction) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n", heloName(s.helo), literal(s.peer))
	fmt.Fprintf(&b, "\tby %s with %s", s.server.opts.Hostname, s.protocol(t))
	if s.tls != "" {
		fmt.Fprintf(&b, " (%s)", s.tls)
	}
	fmt.Fprintf(&b, "\r\n\tid %v", t.Facts.Ref)
	if s.server.opts.Seal != nil {
		fmt.Fprintf(&b, " (seal %s)", s.server.opts.Seal(t.Facts.Ref))
	}
	if len(t.to) == 1 && (t.utf8 || t.to[0].IsASCII()) {
		fmt.Fprintf(&b, "\r\n\tfor <%v>", t.to[0])
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", t.begun.Format(time.RFC1123Z))
	return []byte(b.String())
}

// protocol is the word of the with clause (RFC 3848, RFC 6531 section 4.3).
func (s *session) protocol(t *transaction) string {
	name := "SMTP"
	switch {
	case t.utf8:
		name = "UTF8SMTP"
	case s.esmtp || s.tls != "":
		name = "ESMTP"
	}
	if s.tls != "" {
		name += "S"
	}
	return name
}

// heloName is what the client called itself, if that can stand in a header:
// what it sent is a stranger's text, and must not break out of the field.
func heloName(helo string) string {
	if d, err := address.ParseDomain(helo, true); err == nil {
		return d
	}
	return "unknown"
}

// literal writes an address as in RFC 5321 section 4.1.3.
func literal(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}
