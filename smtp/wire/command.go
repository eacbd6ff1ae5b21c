package wire

import (
	"bytes"
	"net"
	"os"
	"strings"
	"time"

	"mailweir/smtp/reply"
)

// maxSkip is how much of an endless line is read to its end.
const maxSkip = 64 << 10

// unserved are verbs of RFC 5321 and its extensions that we do not serve: 502,
// where verbs that nobody knows are answered 500 (section 4.2.4).
var unserved = []string{"EXPN", "SEND", "SOML", "SAML", "TURN", "ETRN", "ATRN", "BURL"}

// handlerOf returns what answers the command, or forwards it to go-smtp; nil
// when it is not served.
func handlerOf(verb string) func(*Conn, Command) {
	switch verb {
	case "EHLO", "HELO":
		return (*Conn).handleHello
	case "MAIL":
		return (*Conn).handleMail
	case "RCPT":
		return (*Conn).handleRcpt
	case "DATA":
		return (*Conn).handleData
	case "BDAT":
		return (*Conn).handleBdat
	case "RSET":
		return (*Conn).handleReset
	case "QUIT":
		return (*Conn).handleQuit
	case "NOOP":
		return (*Conn).handleNoop
	case "VRFY":
		return (*Conn).handleVerify
	case "HELP":
		return (*Conn).handleHelp
	case "STARTTLS":
		return (*Conn).handleStartTLS
	case "AUTH":
		return (*Conn).handleAuth
	}
	return nil
}

// nextCommand reads one command line and handles it.
func (c *Conn) nextCommand() error {
	if r, ok := c.byeReply(); ok {
		c.finish(Command{}, r)
		return c.closed()
	}
	line, err := c.readLine()
	if err != nil || line == nil {
		return err
	}
	c.handle(line)
	return c.closed()
}

// closed is the error of a dead connection, else nil.
func (c *Conn) closed() error {
	if c.isDead() {
		return net.ErrClosed
	}
	return nil
}

// readLine reads a line with its LF. One that is longer than MaxCommandLine is
// read to its end and answered, and the line returned is nil.
func (c *Conn) readLine() ([]byte, error) {
	now := time.Now()
	c.awaits = now
	by, reason := c.commandDeadline(now)
	if !now.Before(by) {
		return nil, c.lost(os.ErrDeadlineExceeded, reason, "")
	}
	for {
		if line, ok := c.in.line(); ok {
			if len(line) > MaxCommandLine {
				c.tooLong(line)
				return nil, c.closed()
			}
			return line, nil
		}
		if b := c.in.bytes(); bytes.HasPrefix(b, clientHello) {
			c.in.clear()
			return b, nil // no line, and it waits for an answer
		}
		if len(c.in.bytes()) >= MaxCommandLine {
			return nil, c.skipLine(by, reason)
		}
		c.in.release()
		if err := c.fill(by, true); err != nil {
			return nil, c.lost(err, reason, c.awaited())
		}
	}
}

// skipLine reads the rest of a line that is too long.
func (c *Conn) skipLine(by time.Time, reason reply.Reason) error {
	head := bytes.Clone(c.in.bytes()[:smallBuffer])
	for skipped := c.in.clear(); ; skipped += c.in.clear() {
		if skipped > maxSkip {
			c.ev.Slip(LongLine)
			c.finish(Command{}, c.ev.Refuse(reply.NotSMTP, Command{}, reply.NotSMTP.Reply()))
			return net.ErrClosed
		}
		if err := c.fill(by, true); err != nil {
			return c.lost(err, reason, c.awaited())
		}
		if _, ok := c.in.line(); ok {
			c.tooLong(head)
			return c.closed()
		}
	}
}

// tooLong refuses a line, of which it gets the beginning at least.
func (c *Conn) tooLong(line []byte) {
	c.ev.Slip(LongLine)
	cmd, _ := parseCommand(line[:min(len(line), smallBuffer)])
	if announcesChunk(cmd) {
		c.badChunk(cmd)
		return
	}
	c.refuse(reply.LineTooLong, cmd, reply.LineTooLong.Reply())
}

// awaited says for a timeout's reply what we were waiting for.
func (c *Conn) awaited() string {
	if c.cmd.Verb == "" {
		return "waiting for a command"
	}
	return "after " + c.cmd.Verb
}

// parseCommand splits a line into verb and argument. It is false when the line
// has characters that no command can have, RFC 5321 section 4.1.2.
func parseCommand(line []byte) (Command, bool) {
	s := strings.Trim(strings.TrimRight(string(line), "\r\n"), " \t")
	verb, arg, _ := strings.Cut(s, " ")
	cmd := Command{Verb: strings.ToUpper(verb), Arg: strings.Trim(arg, " ")}
	clean := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	return cmd, clean
}

// handle answers one command line or forwards it.
func (c *Conn) handle(line []byte) {
	cmd, clean := parseCommand(line)
	cmd.Early = c.received.Load()-int64(len(c.in.bytes())) <= c.ahead
	lineEnd := c.checkLineEnd(line)
	switch {
	case bytes.HasPrefix(line, clientHello):
		// Not as NotSMTP, which is an offence when it goes on: this is a mail
		// client with a wrong setting, and maybe of an office full of others.
		c.ev.Slip(NotSMTP)
		r := withText(reply.Syntax, 521, "TLS begins with STARTTLS here; closing the connection")
		c.finish(Command{}, c.ev.Refuse(reply.Syntax, Command{}, r))
		return
	case isNotSMTP(cmd):
		c.ev.Slip(NotSMTP)
		c.finish(cmd, c.ev.Refuse(reply.NotSMTP, cmd, reply.NotSMTP.Reply()))
		return
	case (!clean || !lineEnd) && announcesChunk(cmd):
		c.badChunk(cmd)
		return
	case !clean || !lineEnd:
		c.ev.Slip(BadSyntax)
		c.refuse(reply.Syntax, cmd, withText(reply.Syntax, 500, "Syntax error: control characters or bare line end"))
		return
	case c.isJunk(cmd):
		c.finish(cmd, c.ev.Refuse(reply.TooManyErrors, cmd, withText(reply.TooManyErrors, 421, "Too many commands without mail")))
		return
	}
	c.checkPipelining(cmd)
	if h := handlerOf(cmd.Verb); h != nil {
		c.cmd = cmd
		h(c, cmd)
		return
	}
	c.handleUnknown(cmd)
}

// checkLineEnd counts bare line ends; false: policy wants the line refused.
func (c *Conn) checkLineEnd(line []byte) bool {
	crlf := bytes.HasSuffix(line, []byte("\r\n"))
	if !crlf {
		c.ev.Slip(BareLF)
	}
	if bytes.IndexByte(bytes.TrimSuffix(line, []byte("\r\n")), '\r') >= 0 {
		c.ev.Slip(BareCR)
	}
	return crlf || !c.cfg.RefuseBareEnds
}

// clientHello is how a client begins that speaks TLS from the start: a handshake
// record of any version (RFC 8446 section 5.1).
var clientHello = []byte{0x16, 0x03}

// isNotSMTP recognises who is at the wrong door, or wants us to relay what a
// browser was made to send: HTTP, other banners, and the header of a message
// whose envelope was refused. A tab is in no field's name (RFC 5322 section
// 2.2), but in the MAIL FROM: of a bad client.
func isNotSMTP(cmd Command) bool {
	switch cmd.Verb {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PROPFIND", "PRI":
		return true
	}
	name, _, isHeader := strings.Cut(cmd.Verb, ":")
	switch {
	case isHeader && name != "" && !strings.Contains(name, "\t") && handlerOf(name) == nil:
		return true
	case strings.HasPrefix(cmd.Verb, "SSH-"):
		return true
	}
	return false
}

// isJunk counts commands that bring no mail on. Each is harmless, and a client
// that sends nothing else holds a connection for free.
func (c *Conn) isJunk(cmd Command) bool {
	switch cmd.Verb {
	case "MAIL", "RCPT", "DATA", "QUIT":
		return false
	case "BDAT":
		if size, last, ok := parseBdat(cmd.Arg); !ok || size > 0 || last {
			return false
		}
	}
	c.seen.junk++
	return c.seen.junk > c.cfg.MaxJunk
}

// checkPipelining counts bytes that came before their turn. STARTTLS looks for
// itself.
func (c *Conn) checkPipelining(cmd Command) {
	if len(c.in.bytes()) == 0 {
		return
	}
	switch cmd.Verb {
	case "EHLO", "HELO", "DATA": // last of their group, RFC 2920 section 3.1
		c.ev.Slip(Pipelining)
	case "STARTTLS", "QUIT", "BDAT":
	default:
		if c.seen.hello != "EHLO" || !c.cfg.offers("PIPELINING") {
			c.ev.Slip(Pipelining)
		}
	}
}

// forward gives go-smtp a command, in the form that it reads right. Between two
// chunks go-smtp waits for more of the message, and must be told first that
// there is none.
func (c *Conn) forward(cmd Command, line string) {
	if c.library == absent {
		c.withoutLibrary(cmd, line)
		return
	}
	c.cmd, c.phase = cmd, answering
	c.feed = []byte(line + "\r\n")
	c.aborted = c.body.open
}

// forwardQuiet gives go-smtp, where it is, a command that the client did not send.
func (c *Conn) forwardQuiet(line string) {
	if c.library == absent {
		return
	}
	c.quiet = true
	c.forward(c.cmd, line)
}

// resume takes go-smtp's reply to a message that was given up: nobody is to
// hear it. The command that gave it up follows.
func (c *Conn) resume() {
	c.aborted = false
	c.seen.endTransaction()
	c.body = body{}
}

// withText is the reply of a reason with another text, and maybe code.
func withText(reason reply.Reason, code int, s string) reply.Reply {
	r := reason.Reply()
	r.Code, r.Text = code, s
	return r
}
