// Package dns asks resolvers for records, and tells three things apart that
// must never be taken for each other (R-CX-03): a definite no, which a sender
// answers for; a failure to find out, which costs him a retry; and a resolver
// of ours that is sick, which is nobody's fault but ours.
//
//	cache ─► look-ups under way ─► servers, the sound ones first: UDP, then TCP when the answer is cut
//
// Answers are kept by their TTL within the bounds that the asker gives, and a
// question that is under way already is not asked twice. Whether a server can
// be believed, canaries say: the root must have an SOA record, and a name that
// cannot exist (RFC 6761 section 6.4) must not; where a look-up failed that did
// not fail before, also a name that no cache can have must be answered for: four
// times a second at the most, however many fail. No answer of a server is used
// whose canaries are not fresh and well, so that one that starts to lie, or
// loses its way out, gets nobody refused. When no server can be believed, every
// answer is Sick.
//
// A look-up ends by its own time-out, not by that of who asked first: its
// answer serves the next. Only the clock of what is kept is injected; time-outs
// are those of the network.
package dns

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// State is what came of a question.
type State uint8

// The states of an answer.
const (
	Failed State = iota // nobody who should know could say
	Found
	NoData // the name exists and has no record of that type
	NoName // the name does not exist (NXDOMAIN)
	Sick   // our own servers cannot be believed: nothing is known
)

func (s State) String() string {
	return [...]string{"failed", "found", "no data", "no name", "sick"}[s]
}

// No says that the answer is a definite no.
func (s State) No() bool { return s == NoData || s == NoName }

// Answer is what is known of a name and a type.
type Answer struct {
	State   State
	Records []dns.RR // of the type that was asked for; shared, not to be changed
	Err     error    // why it is Failed or Sick
}

// Keep bounds how long an answer is kept.
type Keep struct {
	Least, Most time.Duration // of a found one, by its TTL
	No          time.Duration // of a definite no, at the most
	Fail        time.Duration // of a failure
}

// The bounds of what a mail edge asks for.
var (
	Names  = Keep{Least: time.Hour, Most: 24 * time.Hour, No: time.Hour, Fail: time.Minute}        // reverse names, and what they resolve to
	Lists  = Keep{Least: time.Minute, Most: time.Hour, No: time.Hour, Fail: 30 * time.Second}      // DNS lists
	HELO   = Keep{Least: time.Hour, Most: time.Hour, No: time.Hour, Fail: time.Minute}             // what a client calls itself
	Domain = Keep{Least: time.Hour, Most: 24 * time.Hour, No: 15 * time.Minute, Fail: time.Minute} // a sender's domain
	Policy = Keep{Least: 5 * time.Minute, Most: time.Hour, No: time.Hour, Fail: time.Minute}       // SPF
)

// leastNo is how long a no is kept at the least: without a floor, a zone with a
// TTL of zero is asked at every connection.
const leastNo = time.Minute

// Options are what a Resolver is made with.
type Options struct {
	Servers []netip.AddrPort // none: those of File
	File    string           // "": /etc/resolv.conf
	Timeout time.Duration    // of one look-up, over all servers; 0: 5 s
	Clock   func() time.Time // nil: time.Now
	// Changed is told when the resolver as a whole falls sick, and with "" when
	// it is well again; nil: nobody is. It must not call back.
	Changed func(why string)
}

// Resolver is safe for concurrent use.
type Resolver struct {
	now     func() time.Time
	changed func(string)
	file    string
	set     atomic.Pointer[settings]
	cache   cache
	flights singleflight.Group
	places  chan struct{} // one for each look-up under way
	sick    health
	failing failing
}

// settings are what a reload changes.
type settings struct {
	servers []*server
	timeout time.Duration
	fixed   bool // given, not read from the file
}

// mostLookups bounds the look-ups under way, each of which holds a socket.
const mostLookups = 2048

// New returns a Resolver. It asks nobody before it is asked, or Run.
func New(o Options) *Resolver {
	r := &Resolver{now: o.Clock, changed: o.Changed, file: o.File, places: make(chan struct{}, mostLookups)}
	if r.now == nil {
		r.now = time.Now
	}
	if r.changed == nil {
		r.changed = func(string) {}
	}
	if r.file == "" {
		r.file = "/etc/resolv.conf"
	}
	r.cache.entries = map[question]entry{}
	r.Use(o.Servers, o.Timeout)
	return r
}

// Use takes other servers and another time-out from now on. What is kept stays.
func (r *Resolver) Use(servers []netip.AddrPort, timeout time.Duration) {
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	s := &settings{timeout: timeout, fixed: len(servers) > 0}
	if !s.fixed {
		servers = MachineServers(r.file)
	}
	old := r.set.Load()
	for _, at := range servers {
		s.servers = append(s.servers, old.server(at))
	}
	r.set.Store(s)
}

// server is the one at an address, with what is known of it.
func (s *settings) server(at netip.AddrPort) *server {
	if s != nil {
		for _, known := range s.servers {
			if known.at == at {
				return known
			}
		}
	}
	return &server{at: at}
}

// MachineServers are the resolvers that a resolv.conf(5) names, with port 53;
// none where it cannot be read.
func MachineServers(file string) (list []netip.AddrPort) {
	conf, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil
	}
	for _, s := range conf.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			list = append(list, netip.AddrPortFrom(a, 53))
		}
	}
	return list
}

// question is what an answer is kept under.
type question struct {
	name string // lower case, with its final dot
	kind uint16
}

var (
	errNoName     = errors.New("not a domain name")
	errNoServer   = errors.New("no resolver is known: set dns.servers, or name one in /etc/resolv.conf")
	errTooMany    = errors.New("too many look-ups at once")
	errNobodyWell = errors.New("no resolver can be believed")
)

// Ask looks up the records of one type. The answer comes within
// ctx, but for the half second that canaries may take where it has none.
func (r *Resolver) Ask(ctx context.Context, name string, kind uint16, keep Keep) Answer {
	q := question{strings.ToLower(dns.Fqdn(name)), kind}
	if _, ok := dns.IsDomainName(q.name); !ok || len(q.name) > 254 {
		return Answer{State: NoName, Err: errNoName} // no zone can have it
	}
	if a, ok := r.cache.get(q, r.now()); ok {
		return a
	}
	done := r.flights.DoChan(q.name+" "+dns.TypeToString[kind], func() (any, error) {
		if a, ok := r.cache.get(q, r.now()); ok {
			return a, nil // it came while we were on our way
		}
		return r.lookUp(q, keep), nil
	})
	select {
	case res := <-done:
		return res.Val.(Answer)
	case <-ctx.Done():
		return r.outOfTime(ctx, q, done)
	}
}

// outOfTime answers who cannot wait any longer. It is the name's fault only
// where a server is well that was sent canaries now: one that is slow answers
// what was asked before first.
func (r *Resolver) outOfTime(ctx context.Context, q question, done <-chan singleflight.Result) Answer {
	unknown := Answer{State: Sick, Err: context.Cause(ctx)}
	if ctx.Err() != context.DeadlineExceeded {
		return unknown // nobody waits any more
	}
	servers := r.set.Load().servers
	told, out := make(chan string, len(servers)), !r.failing.lately(q, r.now())
	for _, s := range servers {
		go func() { told <- <-r.soundAsync(s, out) }()
	}
	late := time.After(overdue)
	for range servers {
		select {
		case res := <-done:
			return res.Val.(Answer)
		case <-late:
			return unknown
		case why := <-told:
			if why != "" {
				continue
			}
			select {
			case res := <-done:
				return res.Val.(Answer)
			case <-time.After(settle):
				return Answer{State: Failed, Err: unknown.Err}
			}
		}
	}
	return unknown
}

// lookUp asks the servers, and keeps what they say.
func (r *Resolver) lookUp(q question, keep Keep) Answer {
	set := r.set.Load()
	ctx, cancel := context.WithTimeout(context.Background(), set.timeout)
	defer cancel()
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	case <-ctx.Done():
		return Answer{State: Sick, Err: errTooMany} // our own doing
	}
	a, ttl := r.askServers(ctx, set, q)
	now := r.now()
	switch {
	case a.State == Found:
		r.failing.found(q)
		r.cache.put(q, a, now.Add(min(max(ttl, keep.Least), keep.Most)), now)
	case a.State.No():
		r.failing.found(q)
		r.cache.put(q, a, now.Add(min(max(ttl, leastNo), keep.No)), now)
	case a.State == Failed:
		r.failing.note(q, now)
		r.cache.put(q, a, now.Add(keep.Fail), now)
	}
	return a
}
