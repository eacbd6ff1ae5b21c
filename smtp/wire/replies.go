package wire

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/smtp/reply"
)

const (
	holdBack   = 2048           // octets of replies to pipelined commands in one packet
	lingerTime = time.Second    // to let a last reply arrive at a client in full flow
	lingerSize = 256 << 10      // octets read meanwhile
	minDrain   = int64(1) << 20 // octets of a refused body that are read to its end, at least
)

// assembler puts go-smtp's replies together, which it writes line by line, and
// flattens those of several lines: it would put the enhanced code on the last
// line only, where clients do not look for it.
type assembler struct {
	partial []byte
	texts   []string
}

func (a *assembler) write(p []byte) { a.partial = append(a.partial, p...) }

// next returns the next whole reply.
func (a *assembler) next() (reply.Reply, bool) {
	for {
		line, rest, ok := bytes.Cut(a.partial, []byte("\n"))
		if !ok {
			return reply.Reply{}, false
		}
		r, last := parseReply(strings.TrimRight(string(line), "\r"))
		a.partial = append(a.partial[:0], rest...)
		a.texts = append(a.texts, r.Text)
		if last {
			r.Text = strings.Join(a.texts, " ")
			a.texts = a.texts[:0]
			return r, true
		}
	}
}

// parseReply reads one line of a reply; last is false when more lines follow.
func parseReply(line string) (r reply.Reply, last bool) {
	if len(line) < 3 {
		return reply.Internal.Reply(), true
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil {
		return reply.Internal.Reply(), true
	}
	r = reply.Reply{Code: code}
	last = len(line) < 4 || line[3] != '-'
	r.Text = strings.TrimSpace(line[min(4, len(line)):])
	if word, text, _ := strings.Cut(r.Text, " "); strings.Count(word, ".") == 2 {
		if r.Enhanced.UnmarshalText([]byte(word)) == nil {
			r.Text = text
		}
	}
	return r, last
}

// answered takes go-smtp's reply to the command at hand.
func (c *Conn) answered(r reply.Reply) {
	cmd := c.cmd
	switch {
	case c.library != present:
		c.introduce()
	case c.aborted:
		c.resume()
	case c.quiet:
		c.quiet, c.phase = false, commands
	case c.body.open:
		c.endBody(r)
	case r.Code == 354:
		c.openBody(cmd, r)
	default:
		c.phase = commands
		c.settle(cmd, r)
	}
}

// settle brings the state up to date with go-smtp's reply to a command, and
// writes it: the words of success are our own.
func (c *Conn) settle(cmd Command, r reply.Reply) {
	ok := r.Code == 250
	switch {
	case (cmd.Verb == "EHLO" || cmd.Verb == "HELO") && ok:
		c.greet(cmd)
		return
	case cmd.Verb == "MAIL" && ok:
		c.seen.mail = true
		r.Enhanced, r.Text = reply.Enhanced{2, 1, 0}, "Sender ok"
	case cmd.Verb == "RCPT" && ok:
		c.seen.rcpts++
		r.Enhanced, r.Text = reply.Enhanced{2, 1, 5}, "Recipient ok"
	case cmd.Verb == "RSET":
		c.seen.endTransaction()
		r.Text = "Ok"
	}
	c.say(cmd, r)
}

// refuse writes a refusal of wire's own, after the session had its say.
func (c *Conn) refuse(reason reply.Reason, cmd Command, r reply.Reply) {
	c.seen.errors++
	if c.seen.errors > c.cfg.MaxErrors {
		reason, r = reply.TooManyErrors, reply.TooManyErrors.Reply()
	}
	c.say(cmd, c.ev.Refuse(reason, cmd, r))
}

// say writes a one-line reply. A 421 ends the session (RFC 5321 section 3.8),
// which go-smtp would not see to.
func (c *Conn) say(cmd Command, r reply.Reply) {
	if r.Code == 421 {
		c.finish(cmd, r)
		return
	}
	c.queue(cmd, r)
	if !c.mayHold(cmd.Verb) {
		c.flush()
	}
}

// queue puts a reply on its way. Its text may come from afar, from a backend or
// out of a command, and must neither begin a line of its own nor leave ASCII.
func (c *Conn) queue(cmd Command, r reply.Reply) {
	r.Text = strings.Map(plain, r.Text)
	c.out = append(c.out, r.Line()+"\r\n"...)
	c.ev.Replied(cmd, r)
}

func plain(r rune) rune {
	switch {
	case r < ' ' || r == 0x7f:
		return ' '
	case r > '~':
		return '?'
	}
	return r
}

// mayHold says whether a reply may wait for those to the commands that the
// client has sent already. RFC 2920 section 3.2 allows it for these; a reply to
// a message is never held, or a crash would send it twice.
func (c *Conn) mayHold(verb string) bool {
	switch verb {
	case "MAIL", "RCPT", "RSET":
		return c.phase == commands && len(c.out) < holdBack && c.in.hasLine()
	}
	return false
}

// flush sends what was queued. A client that does not take its replies is dead.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	nc := c.current()
	nc.SetWriteDeadline(time.Now().Add(c.cfg.Timeouts.Write))
	n, err := nc.Write(c.out)
	c.sent.Add(int64(n))
	c.out = c.out[:0]
	if cap(c.out) > smallBuffer {
		c.out = nil
	}
	if err != nil {
		c.die(err)
		return net.ErrClosed
	}
	return nil
}

// Flush sends the replies that are held back, for who resets the connection
// right after one. Only the goroutine that serves the connection may call it.
func (c *Conn) Flush() error { return c.flush() }

// finish writes a last reply and closes.
func (c *Conn) finish(cmd Command, r reply.Reply) {
	c.queue(cmd, r)
	if c.flush() != nil {
		return
	}
	c.linger()
	c.die(net.ErrClosed)
}

// linger lets the last reply reach a client that is still sending: closing a
// socket with unread bytes makes the kernel reset it, and the reset overtakes
// the reply. It is bounded in bytes and time.
func (c *Conn) linger() {
	nc := c.current()
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || !c.sending() {
		return
	}
	half.CloseWrite()
	nc.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, nc, lingerSize)
}

// sending says whether the client has sent, or will send, more than was read.
func (c *Conn) sending() bool {
	return c.in.clear() > 0 || c.phase == data || c.phase == chunk || c.unread() > 0
}

// unread is how much the kernel holds that was never read.
func (c *Conn) unread() int {
	tc := c.Raw()
	if tc == nil {
		return 0
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}
