package wire

import (
	"fmt"
	"strings"

	"mailweir/smtp/reply"
)

// handleHello forwards EHLO and HELO. What the name is worth is a judge's
// business; here it only has to be there, and be plain.
func (c *Conn) handleHello(cmd Command) {
	name, _, _ := strings.Cut(cmd.Arg, " ")
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r > '~' }) {
		c.ev.Slip(BadSyntax)
		c.refuse(reply.HELOSyntax, cmd, reply.HELOSyntax.Reply())
		return
	}
	c.forward(cmd, cmd.Verb+" "+name)
}

// greet answers HELO and EHLO in place of go-smtp: RFC 5321 section 4.1.1.1
// wants our own name first, and what is offered is policy. Both commands end a
// transaction, as RSET does.
func (c *Conn) greet(cmd Command) {
	c.seen.hello = cmd.Verb
	c.seen.endTransaction()
	first := reply.Reply{Code: 250, Text: c.cfg.Hostname}
	if cmd.Verb == "HELO" {
		c.say(cmd, first)
		return
	}
	lines := append([]string{c.cfg.Hostname}, c.extensions()...)
	for i, line := range lines {
		sep := '-'
		if i == len(lines)-1 {
			sep = ' '
		}
		c.out = fmt.Appendf(c.out, "250%c%s\r\n", sep, line)
	}
	c.ev.Replied(cmd, first)
	c.flush()
}

// extensions lists what EHLO offers.
func (c *Conn) extensions() []string {
	var offered []string
	for _, name := range []string{"PIPELINING", "SIZE", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING"} {
		switch {
		case !c.cfg.offers(name):
		case name == "STARTTLS" && (c.cfg.TLS == nil || c.TLS() != nil):
		case name == "SIZE":
			offered = append(offered, fmt.Sprintf("SIZE %d", c.cfg.MaxMessageSize))
		default:
			offered = append(offered, name)
		}
	}
	return offered
}
