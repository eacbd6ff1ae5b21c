package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// handleMail reads MAIL FROM:<path> and its parameters, and forwards them in a
// form that go-smtp's looser parser cannot read otherwise.
func (c *Conn) handleMail(cmd Command) {
	switch {
	case c.seen.hello == "":
		c.outOfOrder(cmd, "EHLO first")
		return
	case c.seen.mail:
		c.outOfOrder(cmd, "A transaction is open already")
		return
	}
	arg, ok := cutFold(cmd.Arg, "FROM:")
	if !ok {
		c.badSyntax(reply.SenderSyntax, cmd, "Say MAIL FROM:<address>")
		return
	}
	path, rest, err := address.CutReversePath(arg, true)
	if err != nil {
		c.badAddress(reply.SenderSyntax, cmd, err)
		return
	}
	params, ok := c.readParams(cmd, rest)
	if !ok {
		return
	}
	if !params.utf8 && !isASCII(arg[:len(arg)-len(rest)]) {
		c.refuse(reply.UTF8, cmd, reply.UTF8.Reply())
		return
	}
	c.seen.utf8 = params.utf8
	c.forward(cmd, "MAIL FROM:"+path.String()+params.String())
}

// handleRcpt does the same for RCPT TO:<path>. No parameter of it is offered.
func (c *Conn) handleRcpt(cmd Command) {
	switch {
	case !c.seen.mail:
		c.outOfOrder(cmd, "MAIL first")
		return
	case c.seen.bdat:
		c.outOfOrder(cmd, "RCPT cannot follow BDAT")
		return
	}
	c.seen.tried = true
	arg, ok := cutFold(cmd.Arg, "TO:")
	if !ok {
		c.badSyntax(reply.RecipientSyntax, cmd, "Say RCPT TO:<address>")
		return
	}
	to, rest, err := c.forwardPath(arg)
	if err != nil {
		c.badAddress(reply.RecipientSyntax, cmd, err)
		return
	}
	if strings.Trim(rest, " ") != "" {
		c.badParam(cmd, 555, "RCPT parameters are not offered")
		return
	}
	c.forward(cmd, "RCPT TO:<"+to.String()+">")
}

// forwardPath reads the path of RCPT; postmaster needs no domain (RFC 5321
// section 4.5.1) and is ours.
func (c *Conn) forwardPath(arg string) (address.Mailbox, string, error) {
	to, rest, err := address.CutForwardPath(arg, c.seen.utf8)
	if strings.EqualFold(to.Local, "postmaster") && to.Domain == "" {
		return c.cfg.Postmaster, rest, nil
	}
	return to, rest, err
}

// badAddress refuses an address with the reply of its kind of error.
func (c *Conn) badAddress(reason reply.Reason, cmd Command, err error) {
	why := &address.Error{}
	errors.As(err, &why)
	switch {
	case why.Kind == address.EightBit:
		c.refuse(reply.UTF8, cmd, reply.UTF8.Reply())
	case why.Kind == address.Unqualified && reason == reply.RecipientSyntax:
		c.refuse(reply.UnqualifiedRecipient, cmd, reply.UnqualifiedRecipient.Reply())
	default:
		c.badSyntax(reason, cmd, reason.Reply().Text+": "+why.Detail)
	}
}

func (c *Conn) badParam(cmd Command, code int, why string) {
	c.ev.Slip(BadSyntax)
	c.refuse(reply.Syntax, cmd, reply.Reply{Code: code, Enhanced: reply.Enhanced{5, 5, 4}, Text: why})
}

// mailParams are the parameters of MAIL that we offer.
type mailParams struct {
	size int64  // -1: not given
	body string // "7BIT", "8BITMIME" or ""
	utf8 bool
}

// String writes the parameters for go-smtp, which reads SIZE into 32 bits and
// has no use for more.
func (p mailParams) String() string {
	var b strings.Builder
	if p.size >= 0 {
		fmt.Fprintf(&b, " SIZE=%d", min(p.size, 1<<32-1))
	}
	if p.body != "" {
		b.WriteString(" BODY=" + p.body)
	}
	if p.utf8 {
		b.WriteString(" SMTPUTF8")
	}
	return b.String()
}

// readParams reads what stands behind the path of MAIL; when false, it has
// answered. A parameter that is not offered is 555 (RFC 5321 section 4.1.1.11).
func (c *Conn) readParams(cmd Command, rest string) (p mailParams, ok bool) {
	p.size = -1
	if rest != "" && rest[0] != ' ' {
		c.badSyntax(reply.SenderSyntax, cmd, "Something follows the sender's path")
		return p, false
	}
	for _, word := range strings.Fields(rest) {
		key, value, _ := strings.Cut(word, "=")
		if !c.readParam(cmd, &p, strings.ToUpper(key), value) {
			return p, false
		}
	}
	return p, true
}

func (c *Conn) readParam(cmd Command, p *mailParams, key, value string) bool {
	switch {
	case key == "SIZE" && p.size < 0 && c.cfg.offers("SIZE"):
		return c.readSize(cmd, p, value)
	case key == "BODY" && p.body == "" && c.cfg.offers("8BITMIME"):
		p.body = strings.ToUpper(value)
		if p.body != "7BIT" && p.body != "8BITMIME" {
			c.badParam(cmd, 501, "BODY is 7BIT or 8BITMIME")
			return false
		}
	case key == "SMTPUTF8" && value == "" && !p.utf8 && c.cfg.offers("SMTPUTF8"):
		p.utf8 = true
	default:
		c.badParam(cmd, 555, "MAIL parameter not offered, malformed or repeated")
		return false
	}
	return true
}

// readSize reads SIZE (RFC 1870 section 6.1).
func (c *Conn) readSize(cmd Command, p *mailParams, value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && n > 0, err == nil && n > c.cfg.MaxMessageSize:
		c.refuse(reply.Size, cmd, reply.Size.Reply())
		return false
	case err != nil || n < 0:
		c.badParam(cmd, 501, "SIZE is a number of octets")
		return false
	}
	p.size = n
	return true
}

// cutFold cuts a prefix in any case, and the spaces behind it that RFC 5321
// section 3.3 forbids and too many clients send.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return strings.TrimLeft(s[len(prefix):], " "), true
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' })
}
