package wire

import (
	"slices"
	"strings"

	"mailweir/smtp/reply"
)

// dialogue is what wire knows of the session so far: the order of commands
// (RFC 5321 section 4.1.4), and how the client behaved.
type dialogue struct {
	hello string // "EHLO", "HELO", or "" before either
	mail  bool   // a transaction is open
	utf8  bool   // it was opened with SMTPUTF8
	tried bool   // it had a RCPT
	rcpts int    // recipients that it has
	bdat  bool   // a part of its message is here

	errors int
	junk   int
}

// endTransaction forgets the envelope.
func (d *dialogue) endTransaction() {
	d.mail, d.utf8, d.tried, d.rcpts, d.bdat = false, false, false, 0, false
}

// outOfOrder refuses a command before its turn.
func (c *Conn) outOfOrder(cmd Command, why string) {
	c.ev.Slip(BadOrder)
	c.refuse(reply.Order, cmd, withText(reply.Order, 503, why))
}

// badSyntax refuses a command with an argument that does not parse.
func (c *Conn) badSyntax(reason reply.Reason, cmd Command, why string) {
	c.ev.Slip(BadSyntax)
	c.refuse(reason, cmd, withText(reason, reason.Reply().Code, why))
}

// mayHaveBody says whether DATA and BDAT are in order; if not, they are
// answered. A transaction whose recipients were all refused is told apart from
// one that had none.
func (c *Conn) mayHaveBody(cmd Command) bool {
	switch d := &c.seen; {
	case !d.mail:
		c.outOfOrder(cmd, "MAIL first")
	case d.rcpts == 0 && d.tried:
		c.refuse(reply.NoRecipients, cmd, reply.NoRecipients.Reply())
	case d.rcpts == 0:
		c.outOfOrder(cmd, "RCPT first")
	case d.bdat && cmd.Verb == "DATA":
		c.outOfOrder(cmd, "DATA cannot follow BDAT")
	default:
		return true
	}
	return false
}

func (c *Conn) handleReset(cmd Command) {
	if cmd.Arg != "" {
		c.badSyntax(reply.Syntax, cmd, "RSET takes no argument")
		return
	}
	c.forward(cmd, "RSET")
}

func (c *Conn) handleQuit(cmd Command) { c.forward(cmd, "QUIT") }

func (c *Conn) handleNoop(cmd Command) {
	c.say(cmd, reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 0, 0}, Text: "Ok"})
}

// handleVerify neither confirms nor denies (RFC 5321 section 3.5.3): VRFY is
// the harvester's first tool.
func (c *Conn) handleVerify(cmd Command) {
	c.say(cmd, reply.Reply{Code: 252, Enhanced: reply.Enhanced{2, 5, 0}, Text: "Cannot verify the user, send it mail and see"})
}

func (c *Conn) handleHelp(cmd Command) {
	c.say(cmd, reply.Reply{Code: 214, Enhanced: reply.Enhanced{2, 0, 0}, Text: "See RFC 5321"})
}

// handleAuth answers what is not offered. A first response is a guess at a
// password, and hears what every wrong guess hears (RFC 4954 section 6).
func (c *Conn) handleAuth(cmd Command) {
	c.ev.Slip(AuthAttempt)
	r := reply.Auth.Reply()
	switch {
	case c.seen.hello == "":
		c.outOfOrder(cmd, "EHLO first")
		return
	case c.cfg.TLS != nil && c.TLS() == nil:
		r = reply.Reply{Code: 530, Enhanced: reply.Enhanced{5, 7, 0}, Text: "Authentication is not offered in clear"}
	case strings.Contains(cmd.Arg, " "):
		c.refuse(reply.AuthFailed, cmd, reply.AuthFailed.Reply())
		return
	}
	c.refuse(reply.Auth, cmd, r)
}

func (c *Conn) handleUnknown(cmd Command) {
	c.ev.Slip(UnknownCommand)
	if slices.Contains(unserved, cmd.Verb) {
		c.refuse(reply.UnknownCommand, cmd, reply.UnknownCommand.Reply())
		return
	}
	r := withText(reply.UnknownCommand, 500, "Command not recognised")
	r.Enhanced[2] = 2
	c.refuse(reply.UnknownCommand, cmd, r)
}
