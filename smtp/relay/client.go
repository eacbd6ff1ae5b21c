package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"mailweir/smtp/reply"
)

// client is one SMTP or LMTP connection to a backend, after EHLO. It is used
// by one goroutine at a time.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer

	name string // what the server calls itself
	ext  extensions
	tls  string // "TLS1.3", "" in clear

	dirty  bool // a transaction is open and wants RSET
	broken bool // nothing more can be said on it
	uses   int
	noes   int // recipients that it refused
	idle   time.Time
}

// extensions are those of EHLO that matter to us.
type extensions struct {
	pipelining bool  // RFC 2920
	eightBit   bool  // RFC 6152
	smtputf8   bool  // RFC 6531
	startTLS   bool  // RFC 3207
	size       int64 // RFC 1870; 0: no limit is said
}

// failure is what ended a transaction: a refusal of the server, or an error on
// the way to it.
type failure struct {
	stage   Stage
	reply   reply.Reply // zero where err is set
	err     error
	meaning Meaning // overrides what the reply means; "" where it does not
}

func (f *failure) Error() string {
	if f.err != nil {
		return string(f.stage) + ": " + f.err.Error()
	}
	return string(f.stage) + ": " + f.reply.Line()
}

func (f *failure) Unwrap() error { return f.err }

// Meaning of an error on the way is that the backend is away.
func (f *failure) Meaning() Meaning {
	switch {
	case f.meaning != "":
		return f.meaning
	case f.err != nil:
		return Away
	}
	if m := MeaningOf(f.stage, f.reply); m != Taken {
		return m
	}
	return Away // a yes that makes no sense there
}

func newClient(conn net.Conn) *client {
	return &client{
		conn: conn,
		r:    bufio.NewReaderSize(conn, maxReplyLine),
		w:    bufio.NewWriterSize(conn, 4096),
	}
}

var longAgo = time.Unix(1, 0)

// within bounds what f reads and writes by ctx and by wait, as a whole: a server
// that answers one byte a second is cut off, too. An error leaves c broken.
// Before we speak, the server has to be silent.
func (c *client) within(ctx context.Context, wait time.Duration, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.silent(); err != nil {
		c.broken = true
		return err
	}
	return c.bounded(ctx, wait, f)
}

// bounded is within where the server speaks first.
func (c *client) bounded(ctx context.Context, wait time.Duration, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.conn.SetDeadline(time.Now().Add(wait)); err != nil {
		c.broken = true
		return err
	}
	struck := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetDeadline(longAgo)
		close(struck)
	})
	err := f()
	if !stop() {
		<-struck // else it would hit what comes next
		c.broken = true
	}
	c.broken = c.broken || err != nil
	return err
}

// ask sends commands and reads their replies: all at once where the server can
// do that, else one by one up to the first that is refused. With an error come
// the replies before it.
func (c *client) ask(ctx context.Context, commands ...string) (replies []reply.Reply, err error) {
	err = c.within(ctx, commandWait, func() error {
		if c.ext.pipelining {
			return c.askAll(commands, &replies)
		}
		for _, command := range commands {
			if err := c.askAll([]string{command}, &replies); err != nil {
				return err
			}
			if last := replies[len(replies)-1]; !last.Positive() {
				return nil
			}
		}
		return nil
	})
	return replies, err
}

func (c *client) askAll(commands []string, replies *[]reply.Reply) error {
	for _, command := range commands {
		c.w.WriteString(command)
		c.w.WriteString("\r\n")
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	for range commands {
		resp, err := readResponse(c.r)
		if err != nil {
			return err
		}
		*replies = append(*replies, resp.reply())
		if resp.code == 421 {
			c.broken = true // RFC 5321 section 3.8: it closes
			return nil
		}
	}
	return nil
}

// greet reads the greeting and says hello. self is our own name: a server that
// bears it is ourselves.
func (c *client) greet(ctx context.Context, scheme, self string) error {
	var banner response
	err := c.bounded(ctx, greetWait, func() (err error) {
		banner, err = readResponse(c.r)
		return err
	})
	switch {
	case err != nil:
		return &failure{stage: AtGreeting, err: fmt.Errorf("read greeting: %w", err)}
	case banner.code != 220:
		return &failure{stage: AtGreeting, reply: banner.reply()}
	}
	if isSelf(banner, self) {
		return errSelf(AtGreeting, self)
	}
	return c.hello(ctx, scheme, self)
}

// hello says EHLO or LHLO, and to a server of the old kind HELO.
func (c *client) hello(ctx context.Context, scheme, self string) error {
	verb := "EHLO "
	if scheme == "lmtp" {
		verb = "LHLO "
	}
	resp, err := c.helloAs(ctx, verb+self)
	if err == nil && (resp.code == 500 || resp.code == 502) && scheme != "lmtp" {
		resp, err = c.helloAs(ctx, "HELO "+self)
	}
	switch {
	case err != nil:
		return &failure{stage: AtHello, err: fmt.Errorf("say hello: %w", err)}
	case resp.code != 250:
		return &failure{stage: AtHello, reply: resp.reply()}
	case isSelf(resp, self):
		return errSelf(AtHello, self)
	}
	c.name, c.ext = firstWord(resp), readExtensions(resp)
	return nil
}

func (c *client) helloAs(ctx context.Context, line string) (resp response, err error) {
	err = c.within(ctx, greetWait, func() error {
		c.w.WriteString(line + "\r\n")
		if err := c.w.Flush(); err != nil {
			return err
		}
		resp, err = readResponse(c.r)
		return err
	})
	return resp, err
}

func firstWord(resp response) string {
	if fields := strings.Fields(resp.lines[0]); len(fields) > 0 {
		return strings.ToLower(fields[0])
	}
	return ""
}

func isSelf(resp response, self string) bool {
	return self != "" && firstWord(resp) == strings.ToLower(self)
}

func errSelf(at Stage, self string) error {
	return &failure{stage: at, meaning: Misconfigured, err: fmt.Errorf(
		"the server calls itself %s, as we do: the route leads to ourselves, or two servers bear one name; correct the backend's url or one of the names", self)}
}

// readExtensions reads the keywords of an EHLO reply (RFC 5321 section 4.1.1.1).
func readExtensions(resp response) (e extensions) {
	for _, line := range resp.lines[1:] {
		word, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(word) {
		case "PIPELINING":
			e.pipelining = true
		case "8BITMIME":
			e.eightBit = true
		case "SMTPUTF8":
			e.smtputf8 = true
		case "STARTTLS":
			e.startTLS = true
		case "SIZE":
			if n, err := strconv.ParseInt(strings.TrimSpace(arg), 10, 64); err == nil && n > 0 {
				e.size = n
			}
		}
	}
	return e
}

// quit takes leave, as a server's log wants it, and closes.
func (c *client) quit() {
	defer c.conn.Close()
	if c.broken {
		return
	}
	// Whatever goes wrong here goes wrong with a connection that is over.
	_ = c.within(context.Background(), quitWait, func() error {
		c.w.WriteString("QUIT\r\n")
		if err := c.w.Flush(); err != nil {
			return err
		}
		_, err := readResponse(c.r)
		return err
	})
}

// isTransport says whether err is one of the way, not a word of the server.
func isTransport(err error) bool {
	var f *failure
	if errors.As(err, &f) {
		return f.err != nil && f.meaning == "" || f.reply.Code == 421
	}
	return err != nil
}
