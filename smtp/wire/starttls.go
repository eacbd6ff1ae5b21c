package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"mailweir/smtp/reply"
)

// handleStartTLS answers STARTTLS (RFC 3207) and shakes hands. What the client
// sent behind the command, in clear, is thrown away: read as if it had come
// through TLS, it would let a man in the middle put words into its mouth.
func (c *Conn) handleStartTLS(cmd Command) {
	switch {
	case cmd.Arg != "":
		r := withText(reply.Syntax, 501, "STARTTLS takes no argument")
		c.ev.Slip(BadSyntax)
		c.refuse(reply.Syntax, cmd, r)
		return
	case c.TLS() != nil:
		c.outOfOrder(cmd, "TLS is already on")
		return
	case c.cfg.TLS == nil || !c.cfg.offers("STARTTLS"):
		c.ev.Slip(UnknownCommand)
		c.refuse(reply.UnknownCommand, cmd, reply.UnknownCommand.Reply())
		return
	}
	if c.in.clear() > 0 {
		c.ev.Slip(TLSInjection)
	}
	c.say(cmd, reply.Reply{Code: 220, Enhanced: reply.Enhanced{2, 0, 0}, Text: "Ready to start TLS"})
	if c.isDead() {
		return
	}
	if err := c.handshake(); err != nil {
		// Not a word in clear: the client may be anywhere in the handshake.
		if _, leaving := c.byeReply(); leaving {
			c.die(net.ErrClosed) // it was ended by Dismiss
			return
		}
		c.ev.Slip(TLSFailed)
		c.die(fmt.Errorf("shake hands for TLS: %w", err))
		return
	}
	c.startOver()
}

func (c *Conn) handshake() error {
	tc := tls.Server(c.raw, c.cfg.TLS)
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeouts.Handshake)
	defer cancel()
	c.raw.SetDeadline(time.Now().Add(c.cfg.Timeouts.Handshake))
	defer c.raw.SetDeadline(time.Time{})
	c.mu.Lock()
	c.wait = wait{on: true, since: time.Now()} // and stalls as a command does
	c.mu.Unlock()
	err := tc.HandshakeContext(ctx)
	c.unpark()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.nc = tc
	c.mu.Unlock()
	return nil
}

// startOver forgets all that was said in clear (RFC 3207 section 4.2); go-smtp
// is told to end a transaction that was open.
func (c *Conn) startOver() {
	c.seen = dialogue{errors: c.seen.errors, junk: c.seen.junk}
	c.forwardQuiet("RSET")
}
