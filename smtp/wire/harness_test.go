package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"mailweir/smtp/reply"
)

// mail is a message that a backend took.
type mail struct {
	from string
	to   []string
	body string
}

// String writes m as transcripts have it.
func (m mail) String() string {
	return fmt.Sprintf("%s -> %s: %q", m.from, strings.Join(m.to, " "), m.body)
}

// backend is a session behind a real go-smtp server that keeps what it got. A
// recipient whose local part is "unknown", "gone" or "busy" gets 550, 421 and
// 451, as the session would say it, "slow" takes a minute; sender "nobody" is
// refused.
type backend struct {
	mu    sync.Mutex
	from  string
	rcpts []string
	mails []mail  // accepted
	calls int     // go-smtp servers that were asked for
	broke []error // what the bodies that were not whole ended with
}

func (b *backend) Logout() error { return nil }

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	return b, nil
}

func (b *backend) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.from, b.rcpts = "", nil
}

func (b *backend) Mail(from string, opts *smtp.MailOptions) error {
	if strings.HasPrefix(from, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "backend: not from you"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.from = from
	return nil
}

func (b *backend) Rcpt(to string, opts *smtp.RcptOptions) error {
	if len(opts.Notify) > 0 {
		panic("a parameter came out of an address")
	}
	local, _, _ := strings.Cut(to, "@")
	switch local {
	case "unknown":
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "backend: unknown"}
	case "busy":
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "backend: two\nlines\r\x00é"}
	case "slow":
		time.Sleep(time.Minute)
	case "gone":
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "backend: go away"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rcpts = append(b.rcpts, to)
	return nil
}

func (b *backend) Data(r io.Reader) error {
	b.mu.Lock()
	m := mail{from: b.from, to: b.rcpts}
	b.mu.Unlock()
	if strings.HasPrefix(m.from, "early@") {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "backend: not read"}
	}
	body, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.broke = append(b.broke, err)
		return err
	}
	m.body = string(body)
	b.mails = append(b.mails, m)
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "backend: taken"}
}

func (b *backend) delivered() []mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]mail(nil), b.mails...)
}

func (b *backend) failures() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]error(nil), b.broke...)
}

// events keeps what wire reports. Refusals of wire's own are marked, as the
// session marks them with its ref.
type events struct {
	mu      sync.Mutex
	slips   []Slip
	reasons []reply.Reason
	replies []string // "VERB code"
}

const mark = " (ref)"

func (e *events) Refuse(reason reply.Reason, cmd Command, r reply.Reply) reply.Reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reasons = append(e.reasons, reason)
	r.Text += mark
	return r
}

func (e *events) Replied(cmd Command, r reply.Reply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replies = append(e.replies, fmt.Sprintf("%s %d", cmd.Verb, r.Code))
}

func (e *events) Slip(s Slip) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.slips = append(e.slips, s)
}

func (e *events) said() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.replies...)
}

func (e *events) slipped() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, s := range e.slips {
		all = append(all, string(s))
	}
	return strings.Join(all, " ")
}

// oneShot is the listener of one connection.
type oneShot struct {
	conn net.Conn
	addr net.Addr
}

func (l *oneShot) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	c := l.conn
	l.conn = nil
	return c, nil
}
func (l *oneShot) Close() error   { return nil }
func (l *oneShot) Addr() net.Addr { return l.addr }

// serve speaks on c, with a go-smtp server when it is wanted, as the session
// does, until c is done.
func serve(t testing.TB, c *Conn, b *backend) (wait func()) {
	var served sync.WaitGroup
	served.Go(func() {
		c.Greet()
		for {
			switch wanted, err := c.Converse(); {
			case err != nil:
				return
			case wanted:
				serveTransaction(t, c, b)
			}
		}
	})
	return served.Wait
}

func serveTransaction(t testing.TB, c *Conn, b *backend) {
	srv := smtp.NewServer(b)
	srv.Domain = "mx.example.net"
	srv.MaxLineLength = 0
	srv.EnableSMTPUTF8 = true
	srv.ReadTimeout = time.Hour
	srv.ErrorLog = log.New(io.Discard, "", 0)
	if err := srv.Serve(&oneShot{conn: c, addr: c.LocalAddr()}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve: %v", err)
	}
	srv.Shutdown(context.WithoutCancel(t.Context()))
}
