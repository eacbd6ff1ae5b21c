package wire

import (
	"errors"
	"net"
	"time"

	"mailweir/smtp/reply"
)

// What the reader of a body gets when the message will never be whole: the
// session gives its transaction up, and what it answers is not sent.
var (
	ErrRefused = errors.New("receive message: refused by the wire") // wire answers
	ErrAborted = errors.New("receive message: given up by the client between chunks")
)

// body is one message on its way in.
type body struct {
	open    bool         // go-smtp is in DATA
	began   time.Time    // the body, or the chunk
	raw     int64        // octets read since then, as they came
	refused reply.Reason // why the message is refused, "" when it is not
	slipped map[Slip]bool

	filter dataFilter // of DATA

	chunks chunkFilter // of BDAT
	total  int64       // octets of all chunks
	left   int64       // of this one
	last   bool
}

func (c *Conn) handleData(cmd Command) {
	if cmd.Arg != "" {
		c.badSyntax(reply.Syntax, cmd, "DATA takes no argument")
		return
	}
	if c.mayHaveBody(cmd) {
		c.body = body{}
		c.forward(cmd, "DATA")
	}
}

// openBody takes go-smtp's 354; the client hears it only if it asked with DATA.
func (c *Conn) openBody(cmd Command, r reply.Reply) {
	c.body.open = true
	c.startBody()
	if cmd.Verb == "BDAT" {
		c.phase = chunk
		return
	}
	c.phase = data
	c.say(cmd, r)
}

// startBody starts the clock of a body or a chunk.
func (c *Conn) startBody() { c.body.began, c.body.raw = time.Now(), 0 }

// readData moves a piece of the body behind DATA to p.
func (c *Conn) readData(p []byte) (int, error) {
	if c.body.refused != "" {
		return 0, ErrRefused
	}
	if len(p) < stepRoom { // never go-smtp, which reads 4 KiB at a time
		c.die(errors.New("receive message: the reader's buffer is too small"))
		return 0, net.ErrClosed
	}
	if err := c.fillBody(); err != nil {
		return 0, err
	}
	f := &c.body.filter
	n, used := f.run(p, c.in.bytes())
	c.in.take(used)
	c.judgeBody(f.bareLF, f.bareCR, f.longest, f.size, c.cfg.RefuseBareEnds)
	if c.body.refused != "" {
		return 0, ErrRefused
	}
	if f.state == dataEnd {
		c.phase = answering
	}
	return n, nil
}

// judgeBody counts the slips of a body, each once, and refuses it for what
// cannot be mended.
func (c *Conn) judgeBody(bareLF, bareCR bool, longest int, size int64, strictEnds bool) {
	c.slipOnce(BareLF, bareLF)
	c.slipOnce(BareCR, bareCR)
	c.slipOnce(LongLine, longest > MaxBodyLine)
	switch {
	case size > c.cfg.MaxMessageSize:
		c.body.refused = reply.Size
	case strictEnds && (bareLF || bareCR):
		c.body.refused = reply.LineEnds
	case longest > MaxBodyLine:
		c.body.refused = reply.LineTooLong
	}
}

func (c *Conn) slipOnce(s Slip, seen bool) {
	if !seen || c.body.slipped[s] {
		return
	}
	if c.body.slipped == nil {
		c.body.slipped = make(map[Slip]bool)
	}
	c.body.slipped[s] = true
	c.ev.Slip(s)
}

// fillBody sees to it that some of the body is waiting. A body is read beyond
// its limit so that the client hears why it was refused, but not without end.
func (c *Conn) fillBody() error {
	if len(c.in.bytes()) > 0 {
		return nil
	}
	if c.body.raw > c.maxDrain() {
		c.finish(c.cmd, c.refusal())
		return net.ErrClosed
	}
	c.in.lend()
	if err := c.fill(c.bodyDeadline(time.Now()), false); err != nil {
		return c.lost(err, reply.Timeout, "in "+c.cmd.Verb)
	}
	c.body.raw += int64(len(c.in.bytes()))
	return nil
}

// refusal is the reply to a body that is refused; one that is read for nothing
// is refused for its size.
func (c *Conn) refusal() reply.Reply {
	reason := c.body.refused
	if reason == "" {
		reason = reply.Size
	}
	r := reason.Reply()
	switch {
	case reason == reply.LineTooLong:
		r = reply.Reply{Code: 554, Enhanced: reply.Enhanced{5, 6, 0}, Text: "Line too long"}
	case reason == reply.LineEnds && c.cmd.Verb == "DATA":
		r.Text = "Bare CR or LF in the message (RFC 5321 section 2.3.8)"
	}
	return c.ev.Refuse(reason, c.cmd, r)
}

// endBody takes go-smtp's reply to a body. What of the body go-smtp left unread,
// because it was refused, is read here, for it must not be taken for commands.
func (c *Conn) endBody(r reply.Reply) {
	cmd := c.cmd
	switch {
	case r.Code == 421:
	case c.phase == data && !c.drainData(), c.phase == chunk && !c.discard(c.body.left):
		return // the connection is dead
	case c.body.refused != "":
		r = c.refusal()
	}
	c.phase = commands
	c.seen.endTransaction()
	c.body = body{}
	if r.Code == 250 {
		c.seen.junk = 0
	}
	cmd.Early = cmd.Early && cmd.Verb == "BDAT" // a body behind DATA waits for our 354
	c.ahead = c.received.Load() + int64(c.unread())
	c.say(cmd, r)
}

// drainData reads the rest of a body behind DATA.
func (c *Conn) drainData() bool {
	var scratch [1024]byte
	for f := &c.body.filter; f.state != dataEnd; {
		if c.fillBody() != nil {
			return false
		}
		_, used := f.run(scratch[:], c.in.bytes())
		c.in.take(used)
	}
	return true
}

// maxDrain is how much is read of a body that is too big, or of a chunk.
func (c *Conn) maxDrain() int64 {
	return c.cfg.MaxMessageSize + max(c.cfg.MaxMessageSize, minDrain)
}

// discard reads n octets of a chunk; false: it is not worth reading, or could
// not be, and the connection is dead.
func (c *Conn) discard(n int64) bool {
	if n > c.maxDrain() {
		c.finish(c.cmd, c.refusal())
		return false
	}
	for n > 0 {
		if c.fillBody() != nil {
			return false
		}
		k := min(int64(len(c.in.bytes())), n)
		c.in.take(int(k))
		n -= k
	}
	return true
}
