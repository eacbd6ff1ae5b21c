package wire

import (
	"io"
	"net"

	"mailweir/smtp/reply"
)

// A go-smtp server is there for a transaction only. It holds 8 KiB of buffers and
// a goroutine, whose stack is as much again: more than all the rest of a
// connection in clear. So wire greets, answers hellos and whatever else needs no
// envelope by itself, asks for go-smtp with MAIL, and sends it away before it
// waits for a client that has no transaction open.

// library is how far go-smtp has come.
type library int

const (
	absent     library = iota
	greeting           // asked for; its greeting is awaited, and the client heard ours long ago
	introduced         // so is its reply to our EHLO
	present
)

// Greet writes the greeting.
func (c *Conn) Greet() {
	c.phase = commands
	c.say(Command{}, reply.Reply{Code: 220, Text: c.cfg.Hostname + " ESMTP Service Ready"})
}

// Converse reads one command and answers it. It returns wanted true when a
// go-smtp Server is to Serve the connection first, and the error of Read when
// the connection is over.
func (c *Conn) Converse() (wanted bool, err error) {
	if c.isDead() {
		return false, net.ErrClosed
	}
	err = c.nextCommand()
	return c.library == greeting, err
}

// withoutLibrary answers a command that would be go-smtp's, or asks for it.
func (c *Conn) withoutLibrary(cmd Command, line string) {
	switch cmd.Verb {
	case "EHLO", "HELO":
		c.settle(cmd, reply.Reply{Code: 250})
	case "RSET":
		c.settle(cmd, reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 0, 0}})
	case "QUIT":
		c.say(cmd, reply.Reply{Code: 221, Enhanced: reply.Enhanced{2, 0, 0}, Text: "Bye"})
		c.die(net.ErrClosed)
	default:
		c.library, c.phase, c.opening = greeting, answering, line
	}
}

// introduce brings a new go-smtp to where the client is: behind its EHLO, with
// the command that it was asked for.
func (c *Conn) introduce() {
	if c.library == greeting {
		c.library, c.feed = introduced, []byte("EHLO client\r\n")
		return
	}
	c.library, c.feed, c.opening = present, []byte(c.opening+"\r\n"), ""
}

// sendAway ends a go-smtp that has nothing to do: its Read has come to the end
// of its input.
func (c *Conn) sendAway() error {
	if c.phase != commands || c.seen.mail || c.in.hasLine() {
		return nil
	}
	c.library = absent
	return io.EOF
}
