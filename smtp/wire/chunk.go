package wire

import (
	"strconv"
	"strings"

	"mailweir/smtp/reply"
)

// A message in chunks reaches go-smtp as one DATA, with its dots stuffed on the
// way. go-smtp's own BDAT runs the session in a goroutine of its own, and when
// a message is given up it may take the end of that one for the result of the
// next (v0.25.1, conn.go, handleBdat). So go-smtp stays in DATA from the first
// chunk to the last; commands in between are answered by wire, and one that
// gives the message up ends that DATA with ErrAborted.

// chunkFilter stuffs the dots of a message in chunks, and reads along: nothing
// else in it is changed (RFC 3030 section 3), so a CR or LF of its own cannot
// be mended. State is kept from chunk to chunk, which may be cut inside CRLF.
type chunkFilter struct {
	cr      bool // the last octet was a CR
	midLine bool
	length  int // of the line being read
	longest int

	bareLF, bareCR bool
}

// run moves src to dst, until src is used up or dst is full.
func (f *chunkFilter) run(dst, src []byte) (written, used int) {
	for used < len(src) && len(dst)-written >= stepRoom {
		b := src[used]
		used++
		f.look(b)
		if b == '.' && !f.midLine {
			dst[written] = '.'
			written++
		}
		dst[written] = b
		written++
		f.midLine = b != '\n'
	}
	return written, used
}

func (f *chunkFilter) look(b byte) {
	f.bareLF = f.bareLF || b == '\n' && !f.cr
	f.bareCR = f.bareCR || b != '\n' && f.cr
	f.cr = b == '\r'
	f.length++
	f.longest = max(f.longest, f.length)
	if b == '\n' {
		f.length = 0
	}
}

// end returns what ends the message, and completes its last line.
func (f *chunkFilter) end() []byte {
	f.bareCR = f.bareCR || f.cr
	if f.midLine {
		return []byte("\r\n.\r\n")
	}
	return []byte(".\r\n")
}

// handleBdat reads BDAT n [LAST] (RFC 3030 section 2). The chunk follows the
// command whatever we say to it, and is taken off the connection even where
// BDAT is not offered: its octets must never be read as commands.
func (c *Conn) handleBdat(cmd Command) {
	size, last, ok := parseBdat(cmd.Arg)
	if !ok {
		c.badChunk(cmd)
		return
	}
	if c.seen.mail && c.seen.rcpts > 0 && c.cfg.offers("CHUNKING") {
		c.acceptChunk(cmd, size, last)
		return
	}
	c.startBody()
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

// announcesChunk says whether a line that is not taken as a command may have a
// chunk behind it.
func announcesChunk(cmd Command) bool { return strings.HasPrefix(cmd.Verb, "BDAT") }

// badChunk ends a connection of which nobody can say where the next command
// begins.
func (c *Conn) badChunk(cmd Command) {
	c.ev.Slip(BadSyntax)
	r := withText(reply.Syntax, 501, "Say BDAT size [LAST]; closing the connection")
	c.finish(cmd, c.ev.Refuse(reply.Syntax, cmd, r))
}

func parseBdat(arg string) (size int64, last, ok bool) {
	words := strings.Fields(arg)
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && !strings.EqualFold(words[1], "LAST") {
		return 0, false, false
	}
	n, err := strconv.ParseUint(words[0], 10, 62)
	return int64(n), len(words) == 2, err == nil
}

// acceptChunk makes the client's next bytes a chunk. The first one opens DATA
// at go-smtp.
func (c *Conn) acceptChunk(cmd Command, size int64, last bool) {
	if !c.body.open {
		c.body = body{}
	}
	c.startBody()
	c.body.total += size
	c.body.left, c.body.last = size, last
	if c.body.total > c.cfg.MaxMessageSize {
		c.body.refused = reply.Size
	}
	if c.body.open {
		c.phase = chunk
		return
	}
	c.forward(cmd, "DATA")
}

// readChunk moves a piece of a chunk to p. At its end go-smtp reads on, while
// the next commands are handled, unless it was the last.
func (c *Conn) readChunk(p []byte) (int, error) {
	b := &c.body
	n := 0
	if b.left > 0 && b.refused == "" {
		if err := c.fillBody(); err != nil {
			return 0, err
		}
		waiting := c.in.bytes()
		var used int
		n, used = b.chunks.run(p, waiting[:min(int64(len(waiting)), b.left)])
		c.in.take(used)
		b.left -= int64(used)
	}
	done := b.left == 0
	if done && b.last {
		c.feed = b.chunks.end()
	}
	f := &b.chunks
	c.judgeBody(f.bareLF, f.bareCR, f.longest, b.total, true)
	switch {
	case b.refused != "":
		c.feed = nil
		return 0, ErrRefused
	case done && b.last:
		c.phase = answering
	case done:
		c.seen.bdat = true
		c.phase = commands
		c.say(c.cmd, reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 0, 0}, Text: "Continue"})
	}
	return n, nil
}
