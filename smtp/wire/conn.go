package wire

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/smtp/reply"
)

// phase says what the client's next bytes are, and whether go-smtp may have
// them.
type phase int

const (
	commands  phase = iota // command lines
	answering              // go-smtp owes a reply and gets nothing
	data                   // the body behind DATA
	chunk                  // the rest of a chunk behind BDAT
)

// Conn is one SMTP connection. It implements net.Conn for go-smtp, which calls
// Read, Write and Close from one goroutine, while nobody is in Converse; Bye,
// Reset and the methods that only look may be called by any.
type Conn struct {
	raw net.Conn
	cfg *Config
	ev  Events

	// Used by the goroutine that serves the connection.
	in      input
	feed    []byte    // rest of the command line that go-smtp is reading
	said    assembler // go-smtp's reply, until it is complete
	out     []byte    // replies on their way to the client
	phase   phase
	library library // whether go-smtp is there
	opening string  // the command that it was asked for
	cmd     Command // the last command that we know, which go-smtp may be answering
	quiet   bool    // it is ours, and so its answer is swallowed
	aborted bool    // go-smtp is to end a message first that the client gave up
	seen    dialogue
	body    body
	awaits  time.Time // since when, for a command
	ahead   int64     // how far the client had sent when the last message was answered

	began          time.Time
	received, sent atomic.Int64

	mu     sync.Mutex
	nc     net.Conn // raw, or TLS on top of it
	parked bool     // waits for the client, and may be woken
	wait   wait     // for the client, whatever it is to send
	gating bool     // Gate is at work
	woken  bool     // its context is done
	bye    *reply.Reply
	dead   bool
	cause  error
}

// New returns the SMTP side of nc. The configuration is copied.
func New(nc net.Conn, cfg Config, ev Events) *Conn {
	cfg = cfg.withDefaults()
	return &Conn{raw: nc, nc: nc, cfg: &cfg, ev: ev, phase: answering, began: time.Now()}
}

// Read gives go-smtp the next command, or the next piece of a body. Commands
// that go-smtp must not see are answered on the way.
func (c *Conn) Read(p []byte) (int, error) {
	if c.isDead() {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if c.aborted {
			return 0, ErrAborted
		}
		if len(c.feed) > 0 {
			n := copy(p, c.feed)
			c.feed = c.feed[n:]
			return n, nil
		}
		if err := c.sendAway(); err != nil {
			return 0, err
		}
		n, err := c.advance(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// advance brings the dialogue one step on: it handles a command, or moves a
// piece of a body to p.
func (c *Conn) advance(p []byte) (int, error) {
	switch c.phase {
	case commands:
		return 0, c.nextCommand()
	case data:
		return c.readData(p)
	case chunk:
		return c.readChunk(p)
	}
	// go-smtp reads before it has answered: the two would be out of step, and
	// a body could be taken for commands.
	c.die(errors.New("serve SMTP: the server read ahead of its reply"))
	return 0, net.ErrClosed
}

// Write takes go-smtp's replies.
func (c *Conn) Write(p []byte) (int, error) {
	if c.isDead() {
		return 0, net.ErrClosed
	}
	c.said.write(p)
	for {
		r, ok := c.said.next()
		if !ok {
			return len(p), nil
		}
		c.answered(r)
	}
}

// TurnAway answers the connection with r in place of the greeting, and closes
// it. Only who called New may call it, before go-smtp has the connection.
func (c *Conn) TurnAway(r reply.Reply) { c.finish(Command{}, r) }

// Bye ends the session politely, from any goroutine: r is written once the
// command at hand has been answered and a body received, or at once while the
// client is waited for; then the connection is closed. Only the first Bye
// counts. It is the serving goroutine that writes, so that replies never mix.
func (c *Conn) Bye(r reply.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bye == nil {
		c.bye = &r
		c.interrupt()
	}
}

func (c *Conn) byeReply() (reply.Reply, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bye == nil {
		return reply.Reply{}, false
	}
	return *c.bye, true
}

// Reset ends the connection with a RST instead of a FIN: the client learns
// nothing more, and the kernel keeps nothing of it.
func (c *Conn) Reset() {
	if tc := c.Raw(); tc != nil {
		tc.SetLinger(0)
	}
	c.markDead(errors.New("connection reset by us"))
	c.raw.Close()
}

// Close closes the connection, unless it is a go-smtp that was sent away.
func (c *Conn) Close() error {
	if c.library == absent {
		return nil
	}
	c.markDead(net.ErrClosed)
	return c.current().Close()
}

// die closes the connection for a reason of wire's own.
func (c *Conn) die(cause error) {
	c.markDead(cause)
	c.current().Close()
	c.in.release()
}

func (c *Conn) markDead(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead {
		c.dead, c.cause = true, cause
	}
}

func (c *Conn) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *Conn) current() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc
}

// Cause says why the connection ended: nil while it lives, net.ErrClosed when
// it was closed in order, io.EOF when the client left.
func (c *Conn) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// TLS returns the state of TLS, nil in clear.
func (c *Conn) TLS() *tls.ConnectionState {
	tc, ok := c.current().(*tls.Conn)
	if !ok {
		return nil
	}
	s := tc.ConnectionState()
	return &s
}

// Raw returns the TCP connection beneath, nil where there is none (tests).
func (c *Conn) Raw() *net.TCPConn {
	tc, _ := c.raw.(*net.TCPConn)
	return tc
}

// Received and Sent count octets, without those of TLS itself.
func (c *Conn) Received() int64 { return c.received.Load() }
func (c *Conn) Sent() int64     { return c.sent.Load() }

// LocalAddr and RemoteAddr are those of the connection beneath.
func (c *Conn) LocalAddr() net.Addr  { return c.raw.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline, SetReadDeadline and SetWriteDeadline change nothing: deadlines
// are wire's. The error tells go-smtp's loop that the connection is over, which
// it would otherwise learn only after one more read.
func (c *Conn) SetDeadline(time.Time) error { return c.SetReadDeadline(time.Time{}) }

// SetReadDeadline is explained at SetDeadline.
func (c *Conn) SetReadDeadline(time.Time) error {
	if c.isDead() {
		return net.ErrClosed
	}
	return nil
}

// SetWriteDeadline is explained at SetDeadline.
func (c *Conn) SetWriteDeadline(time.Time) error { return c.SetReadDeadline(time.Time{}) }
