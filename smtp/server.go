// Package smtp is the mail edge itself: it takes connections, gathers facts,
// lets judges decide on them, hands accepted messages to a Deliverer, and
// reports every transaction to a Recorder.
//
// One connection goes accept → limits → gate → smtp/wire → one go-smtp server
// on a one-shot listener → session. go-smtp gives grammar, parameters and
// dispatch; smtp/wire stands in front of it and answers whatever the library
// would answer wrongly or without asking; the session here decides. What it
// asks (is this recipient known, take this message, ban this source, …) are the
// small interfaces of seams.go; what it saw are the Facts of facts.go.
//
// In observe mode everything is judged and recorded and nothing is refused or
// dropped, except what cannot be taken anyway: a domain without route, a
// recipient that the backend does not know, an address that is none, a message
// over the limit or in a loop, and what protects this machine itself.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/ref"
	"mailweir/smtp/address"
)

// Options are what a Server is made with, for its life. Only Hostname, Policy
// with a Router, and Recorder must be given.
type Options struct {
	Hostname string // greeting, Received, authserv-id of Authentication-Results
	TempDir  string // where a message over 64 KiB waits for its delivery; "" is os.TempDir
	Policy   Policy

	Recorder Recorder
	Watcher  Watcher  // nil: nobody counts recipients
	Canary   Canary   // nil: every directory is believed
	Offender Offender // nil: a conviction resets sessions and bans nobody
	Gate     Gate     // nil: nobody stands banned here
	Origins  Origins  // nil: country and ASN are absent
	Tiers    Tiers    // nil: everybody is New
	// Provider names the provider in whose networks a source of tier Provider is.
	Provider func(netip.Addr) string
	Access   Access // nil: nobody is on a list of the operator
	// Maintenance is what everyone is told with 421 4.3.2 in place of a greeting;
	// "": come in. nil: the door is never closed.
	Maintenance func() string
	Greylist    Greylist // nil: nobody has to come back

	// Seal is what our Received field says beside a ref, and only we can make;
	// nil: nothing.
	Seal func(ref.Ref) string

	Log   *slog.Logger     // faults of ours; nil: slog.Default
	Clock func() time.Time // nil: time.Now
	Grace time.Duration    // for transfers at the end of Serve; 0: 30 s
}

// Policy is what a reload can change. A session keeps the Policy it began
// with, but for the Router, so that a new route serves the next transaction.
type Policy struct {
	ID             string // of the configuration, kept in every record
	Observe        bool
	MaxMessageSize int64 // bytes; 0: 50 MiB
	MaxConnections int   // in all; 0: 10000
	PerSource      PerSource
	Timeouts       Timeouts
	GreetWait      time.Duration // longest wait of a stranger at the gate; 0: none
	Teaser         bool          // send a first line of the greeting before the wait
	RefuseBareEnds bool          // bare LF and CR, instead of making line ends of them
	TLS            *tls.Config   // nil: no STARTTLS
	Router         Router
	Traps          Traps            // spamtraps; nil: none
	SMTPUTF8       bool             // offer it: at least one route can carry it
	Postmaster     address.Mailbox  // whom RCPT TO:<Postmaster> means; zero: postmaster@Hostname
	Chain          Chain            // nil slices pass everything
	Domains        map[string]Chain // in place of Chain for recipients of these domains
	Scout          Scout            // nil: nothing is looked up
}

// chainFor is the chain that recipients of a domain are judged by.
func (p *Policy) chainFor(domain string) *Chain {
	if c, ok := p.Domains[domain]; ok {
		return &c
	}
	return &p.Chain
}

// PerSource caps what one IPv4 address or IPv6 /64 may do; its /24 or /48 may
// do three times as much. 0: 10 open, 30 new a minute. Protected sources have
// five times the cap.
type PerSource struct {
	Open         int
	NewPerMinute int
}

// Timeouts bound how long a client may take. 0: 5 m, 3 m, 30 m.
type Timeouts struct {
	Command  time.Duration // for the next command (RFC 5321 section 4.5.3.2.7 asks for 5 minutes)
	DataIdle time.Duration // between two reads of a message
	Session  time.Duration // in all
}

// Server is the SMTP side of the appliance.
type Server struct {
	opts     Options
	policy   atomic.Pointer[Policy]
	limits   *limits
	shedding shedding
	live     *registry
	stats    *counters
	unfiled  *unfiled
	bodies   bodies
	order    order
	now      func() time.Time
	log      *slog.Logger

	cut    context.Context // ends when deliveries must, at the end of the drain
	cutNow context.CancelFunc
}

// NewServer returns a Server that does nothing until Serve.
func NewServer(o Options) (*Server, error) {
	switch {
	case o.Hostname == "":
		return nil, errors.New("smtp server: no hostname given")
	case o.Recorder == nil:
		return nil, errors.New("smtp server: no recorder given")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	s := &Server{
		opts: o, now: o.Clock, log: o.Log,
		limits: newLimits(), live: newRegistry(), stats: newCounters(),
		unfiled: &unfiled{sources: map[netip.Addr]offence{}},
	}
	s.cut, s.cutNow = context.WithCancel(context.Background())
	return s, s.SetPolicy(o.Policy)
}

// SetPolicy puts p in force for new sessions. Of live ones only the routing of
// their next recipients changes.
func (s *Server) SetPolicy(p Policy) error {
	if p.Router == nil {
		return errors.New("smtp policy: no router given")
	}
	p = p.withDefaults()
	s.policy.Store(&p)
	return nil
}

func (p Policy) withDefaults() Policy {
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	orInt(&p.MaxConnections, 10_000)
	orInt(&p.PerSource.Open, 10)
	orInt(&p.PerSource.NewPerMinute, 30)
	orTime(&p.Timeouts.Command, 5*time.Minute)
	orTime(&p.Timeouts.DataIdle, 3*time.Minute)
	orTime(&p.Timeouts.Session, 30*time.Minute)
	if p.MaxMessageSize == 0 {
		p.MaxMessageSize = 50 << 20
	}
	return p
}

// Serve takes connections from listeners, which it closes, until ctx is done;
// then it drains (see drain.go) and returns when the last session has ended.
// It can be called once. The error is not nil only when a listener failed for good.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var accepting, sessions sync.WaitGroup
	for _, l := range listeners {
		accepting.Go(func() {
			if err := s.accept(ctx, l, &sessions); err != nil {
				stop(fmt.Errorf("accept on %v: %w", l.Addr(), err))
			}
		})
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	accepting.Wait()
	s.drain(&sessions)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// accept hands each connection of l to a goroutine of its own. An error of
// accept (no file descriptor left, a connection that was gone already) must
// never end the server: it waits, longer each time, and goes on.
func (s *Server) accept(ctx context.Context, l net.Listener, sessions *sync.WaitGroup) error {
	const first, most = 5 * time.Millisecond, time.Second
	wait := first
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = first
			sessions.Go(func() { s.serveConn(nc) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.log.Warn("accept failed, trying again", "listener", l.Addr().String(), "error", err, "wait", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			wait = min(2*wait, most)
		}
	}
}
