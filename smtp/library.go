package smtp

import (
	"io"
	"log"
	"net"
	"sync/atomic"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"mailweir/smtp/reply"
	"mailweir/smtp/wire"
)

// This file is all of go-smtp that there is: one of its servers for each
// transaction, and the session as it wants to see it.

// serve speaks with the client until the connection ends.
func (c *client) serve() {
	c.wire.Greet()
	for {
		wanted, err := c.wire.Converse()
		switch {
		case err != nil:
			return
		case c.session.isConvicted(): // by what it did while it was away
			c.wire.Flush()
			c.reset()
			return
		case wanted:
			c.serveTransaction()
		}
	}
}

// serveTransaction runs go-smtp on the connection, until the wire sends it away.
func (c *client) serveTransaction() {
	gs := gosmtp.NewServer(gosmtp.BackendFunc(c.newLibrarySession))
	gs.Domain = c.server.opts.Hostname
	gs.EnableSMTPUTF8 = true   // what is offered, the wire says
	gs.ReadTimeout = time.Hour // not zero, or a pipelined close is a nil dereference; the wire's deadlines are far shorter
	gs.MaxLineLength = 0       // limits are the wire's
	gs.ErrorLog = silent
	l := &oneShot{client: c, ended: make(chan struct{})}
	gs.Serve(l)
}

var silent = log.New(io.Discard, "", 0)

// oneShot is a listener that has one connection. Its second Accept waits until
// go-smtp is through with it, and Serve returns then.
type oneShot struct {
	client *client
	taken  atomic.Bool
	ended  chan struct{}
}

func (l *oneShot) Accept() (net.Conn, error) {
	if l.taken.CompareAndSwap(false, true) {
		return &watched{Conn: l.client.wire, client: l.client, ended: l.ended}, nil
	}
	<-l.ended
	return nil, net.ErrClosed
}

func (l *oneShot) Addr() net.Addr { return l.client.wire.LocalAddr() }
func (l *oneShot) Close() error   { return nil }

// watched tells when go-smtp is through with a connection, and ends that of a
// convicted source with the reply that tells it so.
type watched struct {
	*wire.Conn
	client *client
	once   atomic.Bool
	ended  chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if w.client.session.isConvicted() {
		w.Conn.Flush()
		w.client.reset()
	}
	return n, err
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	if w.once.CompareAndSwap(false, true) {
		close(w.ended)
	}
	return err
}

// librarySession is a session as go-smtp calls it.
type librarySession struct{ *session }

func (c *client) newLibrarySession(*gosmtp.Conn) (gosmtp.Session, error) {
	return librarySession{c.session}, nil
}

// asError is the one way a reply takes into go-smtp. Anything else would be
// made a permanent 554 with our internals in it, and a "250" from Rcpt would
// drop the recipient, so accepting is nil there.
func asError(r reply.Reply) error {
	if r.Code == 0 {
		return nil
	}
	return &gosmtp.SMTPError{Code: r.Code, EnhancedCode: gosmtp.EnhancedCode(r.Enhanced), Message: r.Text}
}

func (l librarySession) Mail(from string, o *gosmtp.MailOptions) error {
	p := mailParams{utf8: o.UTF8, eightBit: o.Body == gosmtp.Body8BitMIME, size: o.Size}
	return asError(l.session.mail(from, p))
}

func (l librarySession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	return asError(l.session.rcpt(to))
}

func (l librarySession) Data(r io.Reader) error { return asError(l.session.data(r)) }

func (l librarySession) Reset() { l.session.reset() }

func (l librarySession) Logout() error { return nil } // the connection's end is what ends a session
