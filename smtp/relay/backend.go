package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// Connections to one backend. Servers allow one host 20 (Exchange) or 50
// (Postfix) by default.
const (
	verifyConnections  = 20
	deliverConnections = 20
	verifyUses         = 50
	deliverUses        = 100
)

// BackendOptions are what a Backend is made with.
type BackendOptions struct {
	Name     string // in the configuration
	URL      URL
	TLS      TLSMode // "": opportunistic for hosts, off for what is on this machine
	Hostname string  // how we call ourselves

	Roots *x509.CertPool // for TLSRequired; nil: those of the system
	Dial  DialFunc       // nil: net.Dialer
}

// Backend is one mail server that we protect.
type Backend struct {
	name     string
	url      URL
	tls      TLSMode
	hostname string
	roots    *x509.CertPool
	dialer   DialFunc

	health  health
	asking  *pool // RCPT without a message
	sending *pool
	maildir *maildir // where the scheme says so
}

// NewBackend checks the options. It connects to nobody.
func NewBackend(o BackendOptions) (*Backend, error) {
	if o.TLS == "" {
		o.TLS = TLSOpportunistic
		if o.URL.Network != "tcp" {
			o.TLS = TLSOff
		}
	}
	if err := o.TLS.Check(o.URL); err != nil {
		return nil, fmt.Errorf("set up backend %s: %w", o.Name, err)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	b := &Backend{name: o.Name, url: o.URL, tls: o.TLS, hostname: o.Hostname, roots: o.Roots, dialer: o.Dial}
	b.health.state = StateUnknown
	b.asking = newPool(verifyConnections, verifyUses, b.dial)
	b.sending = newPool(deliverConnections, deliverUses, b.dial)
	if o.URL.Scheme == "maildir" {
		b.maildir = newMaildir(o.URL.Path, o.Hostname)
	}
	return b, nil
}

// Name is the backend's name in the configuration.
func (b *Backend) Name() string { return b.name }

// URL is where the backend is.
func (b *Backend) URL() URL { return b.url }

// finding is what a backend said of one recipient.
type finding struct {
	meaning Meaning
	reply   reply.Reply // zero where nothing was said
	err     error       // what stood in the way of asking
	at      time.Time
	backend *Backend
}

func (f finding) words() string {
	if f.err != nil {
		return f.err.Error()
	}
	return f.reply.Line()
}

// recipient asks whether the backend takes mail for to, from the null sender,
// and tells the server that no message follows. patient is the lane.
func (b *Backend) recipient(ctx context.Context, to address.Mailbox, patient bool) finding {
	if b.maildir != nil {
		return finding{meaning: Taken, at: time.Now(), backend: b}
	}
	begun := time.Now()
	r, err := b.askRecipient(ctx, to, patient)
	f := finding{reply: r, at: time.Now(), backend: b}
	f.meaning = MeaningOf(AtRcpt, r)
	if err != nil {
		f = failed(err, f)
	}
	b.heard(err, answer{f.at, f.at.Sub(begun), stageOf(err, AtRcpt), to.Domain, f.meaning, f.words()})
	return f
}

// heard has health take in an answer, unless err says that the backend was not
// asked.
func (b *Backend) heard(err error, a answer) {
	if !errors.Is(err, errBusy) && !errors.Is(err, errBackoff) {
		b.health.saw(a)
	}
}

// stageOf is where err struck.
func stageOf(err error, otherwise Stage) Stage {
	var f *failure
	if errors.As(err, &f) {
		return f.stage
	}
	return otherwise
}

// failed is f as an error tells it, which may carry a reply.
func failed(err error, f finding) finding {
	f.meaning, f.err = Away, err
	var fail *failure
	if errors.As(err, &fail) {
		f.meaning, f.reply = fail.Meaning(), fail.reply
	}
	return f
}

func (b *Backend) askRecipient(ctx context.Context, to address.Mailbox, patient bool) (reply.Reply, error) {
	release, err := b.asking.lane(ctx, patient)
	if err != nil {
		return reply.Reply{}, err
	}
	defer release()
	for {
		c, reused, err := b.connection(ctx, b.asking)
		if err != nil {
			return reply.Reply{}, err
		}
		r, err := c.recipient(ctx, to)
		b.asking.put(c)
		if err == nil || !reused || !isTransport(err) || ctx.Err() != nil {
			return r, err
		}
		// The server had closed it meanwhile; the next is the next idle one,
		// and a fresh one in the end.
	}
}

var errBackoff = errors.New("the backend was away a moment ago, the next try is due in a second")

// connection gets one from the pool, but not while a failed try is fresh: each
// would cost its caller the time-out of a connection.
func (b *Backend) connection(ctx context.Context, p *pool) (*client, bool, error) {
	if c := p.takeIdle(); c != nil {
		return c, true, nil
	}
	if words, ok := b.health.backingOff(time.Now()); ok {
		return nil, false, &failure{stage: AtGreeting, err: fmt.Errorf("%w: %s", errBackoff, words)}
	}
	c, err := p.dial(ctx)
	b.health.dialled(time.Now(), c, err, ctx.Err() != nil)
	return c, false, err
}

// recipient runs MAIL FROM:<> and RCPT on c. The error is a *failure.
func (c *client) recipient(ctx context.Context, to address.Mailbox) (reply.Reply, error) {
	mail := "MAIL FROM:<>"
	if !to.IsASCII() {
		if !c.ext.smtputf8 {
			return reply.Reply{}, &failure{stage: AtRcpt, reply: reply.UTF8.Reply(), meaning: MessageRefused}
		}
		mail += " SMTPUTF8"
	}
	commands := []string{mail, "RCPT TO:<" + to.String() + ">"}
	stages := []Stage{AtMail, AtRcpt}
	if c.dirty { // a refused RSET ends it as a refused MAIL does
		commands, stages = append([]string{"RSET"}, commands...), append([]Stage{AtMail}, stages...)
	}
	if c.ext.pipelining {
		commands = append(commands, "RSET") // which costs no wait, and see witnessed
	}
	replies, err := c.ask(ctx, commands...)
	c.dirty = true
	if c.ext.pipelining && len(replies) == len(commands) {
		if err := c.witnessed(replies); err != nil {
			return reply.Reply{}, &failure{stage: AtRcpt, err: err}
		}
	}
	for i, stage := range stages {
		switch {
		case i >= len(replies):
			return reply.Reply{}, &failure{stage: stage, err: or(err, errNonsense)}
		case stage == AtRcpt:
			if replies[i].Permanent() {
				c.noes++
			}
			if replies[i].Code == 421 {
				return reply.Reply{}, &failure{stage: stage, reply: replies[i]}
			}
			return replies[i], nil
		case !replies[i].Positive():
			return reply.Reply{}, &failure{stage: stage, reply: replies[i]}
		}
	}
	return reply.Reply{}, &failure{stage: AtRcpt, err: errNonsense}
}

// witnessed looks whether the answers of a pipeline are those of its commands.
// With one too many among them each would be that of the command before: MAIL's
// yes would make any recipient good. Then RSET, which is last and which no
// server refuses, gets the answer of RCPT.
func (c *client) witnessed(replies []reply.Reply) error {
	err := c.silent()
	if err == nil && replies[len(replies)-1].Code != 250 {
		err = fmt.Errorf("%w: RSET is answered %q", errNonsense, cut(replies[len(replies)-1].Line(), 80))
	}
	c.broken = c.broken || err != nil
	c.dirty = err != nil
	return err
}

func or(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
