package wire

import (
	"strconv"
	"strings"

	"mailweir/smtp/reply"
)

// chunkGuard reads along in the chunks of a message. Nothing in them is
// changed, so a CR or LF of its own cannot be mended: it is found before the
// octets are handed on. State is kept from chunk to chunk, since a CRLF may be
// cut in two.
type chunkGuard struct {
	cr      bool // the last octet was a CR
	length  int  // of the line being read
	longest int

	bareLF, bareCR bool
}

func (g *chunkGuard) scan(p []byte) {
	for _, b := range p {
		g.bareLF = g.bareLF || b == '\n' && !g.cr
		g.bareCR = g.bareCR || b != '\n' && g.cr
		g.cr = b == '\r'
		g.length++
		g.longest = max(g.longest, g.length)
		if b == '\n' {
			g.length = 0
		}
	}
}

// finish is told that the message is over.
func (g *chunkGuard) finish() { g.bareCR = g.bareCR || g.cr }

// handleBdat reads BDAT n [LAST] (RFC 3030 section 2). The chunk follows the
// command whatever we say to it, and is taken off the connection even where
// BDAT is not offered: its octets must never be read as commands.
func (c *Conn) handleBdat(cmd Command) {
	size, last, ok := parseBdat(cmd.Arg)
	if !ok {
		// Where the next command begins, nobody can say.
		c.ev.Slip(BadSyntax)
		r := withText(reply.Syntax, 501, "Say BDAT size [LAST]; closing the connection")
		c.finish(cmd, c.ev.Refuse(reply.Syntax, cmd, r))
		return
	}
	if c.seen.mail && c.seen.rcpts > 0 && c.cfg.offers("CHUNKING") {
		c.acceptChunk(cmd, size, last)
		return
	}
	c.startBody(commands, 0)
	if !c.discard(size) {
		return
	}
	if !c.cfg.offers("CHUNKING") {
		c.ev.Slip(UnknownCommand)
		c.refuse(reply.UnknownCommand, cmd, reply.UnknownCommand.Reply())
		return
	}
	c.mayHaveBody(cmd) // it may not, and is answered
}

func parseBdat(arg string) (size int64, last, ok bool) {
	words := strings.Fields(arg)
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && !strings.EqualFold(words[1], "LAST") {
		return 0, false, false
	}
	n, err := strconv.ParseUint(words[0], 10, 62)
	return int64(n), len(words) == 2, err == nil
}

// acceptChunk forwards BDAT, unless the message is too big or cannot be whole.
func (c *Conn) acceptChunk(cmd Command, size int64, last bool) {
	guard, total := c.body.guard, c.body.total+size
	reason := reply.Reason("")
	switch {
	case total > c.cfg.MaxMessageSize:
		reason = reply.Size
	case last && size == 0 && guard.cr:
		c.ev.Slip(BareCR)
		reason = reply.LineEnds
	}
	if reason != "" {
		c.seen.endTransaction()
		c.startBody(commands, 0)
		if c.discard(size) {
			c.body = body{}
			c.refuse(reason, cmd, reason.Reply())
			c.forwardQuiet("RSET")
		}
		return
	}
	line := "BDAT " + strconv.FormatInt(size, 10)
	if last {
		line += " LAST"
	}
	c.forward(cmd, line)
	c.startBody(chunk, size)
	c.body.guard, c.body.total, c.body.last = guard, total, last
	if size == 0 {
		c.phase = answering
	}
}
