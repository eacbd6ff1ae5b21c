package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// payload is what fits through every path unfragmented (DNS flag day 2020).
	payload = 1232
	// firstWait is how long a server may take before the next is asked, or the
	// same again: packets are lost, and a stranger's greeting waits for us.
	firstWait = 800 * time.Millisecond
	// rounds is how often all servers are asked.
	rounds = 3
)

// askServers asks one server after the other until one says something that can
// be believed.
func (r *Resolver) askServers(ctx context.Context, set *settings, q question) (Answer, time.Duration) {
	t := tries{last: errNoServer}
	wait := firstWait
	for range rounds {
		for _, s := range r.order(set.servers) {
			if a, ttl, ok := r.try(ctx, s, q, wait, &t); ok {
				return a, ttl
			}
		}
		if wait *= 2; ctx.Err() != nil || len(set.servers) == 0 || t.failures >= len(set.servers) {
			break
		}
	}
	if !t.believed() {
		return Answer{State: Sick, Err: t.last}, 0
	}
	return Answer{State: Failed, Err: t.last}, 0
}

// tries is what became of the servers that had no answer.
type tries struct {
	last     error
	silent   []<-chan string // why those that did not answer cannot be believed
	failures int             // of sound servers that could not find out
}

// believed says whether one of them can be believed, so that it is the name's
// fault and not ours.
func (t *tries) believed() bool {
	if t.failures > 0 {
		return true
	}
	for _, sound := range t.silent {
		if <-sound == "" {
			return true
		}
	}
	return false
}

// try asks one server; false: it has no answer that could be used. A server
// that does not answer is left at once: what its canaries say can wait.
func (r *Resolver) try(ctx context.Context, s *server, q question, wait time.Duration, t *tries) (Answer, time.Duration, bool) {
	if why := s.ill(r.now()); why != "" {
		t.last = fmt.Errorf("%w: %s", errNobodyWell, why)
		return Answer{}, 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sound, out := r.soundAsync(s, false), !r.failing.lately(q, r.now())
	m, err := exchange(ctx, s, q)
	if err != nil {
		t.last, t.silent = err, append(t.silent, r.soundAsync(s, out))
		return Answer{}, 0, false
	}
	a, ttl := read(m, q)
	why := <-sound
	if why == "" {
		why = <-r.soundAsync(s, out && a.State == Failed)
	}
	if why != "" {
		t.last = fmt.Errorf("%w: %s", errNobodyWell, why)
		return Answer{}, 0, false
	}
	if a.State == Failed {
		t.last, t.failures = a.Err, t.failures+1
	}
	return a, ttl, a.State != Failed
}

// exchange asks one server one question: over UDP, over TCP when the answer did
// not fit, and without EDNS where that is not understood (RFC 6891 section 7).
func exchange(ctx context.Context, s *server, q question) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(payload, false)
	a, err := s.send(ctx, "udp", m)
	if err == nil && a.Rcode == dns.RcodeFormatError {
		m.Extra = nil
		a, err = s.send(ctx, "udp", m)
	}
	if err == nil && a.Truncated {
		a, err = s.send(ctx, "tcp", m)
	}
	return a, err
}

// send sends m with an id of its own, and takes no answer to anything else.
func (s *server) send(ctx context.Context, network string, m *dns.Msg) (a *dns.Msg, err error) {
	m.Id = dns.Id()
	if network == "udp" {
		a, err = s.sockets.ask(ctx, s.at, m)
	} else {
		c := dns.Client{Net: network, Timeout: time.Minute} // ctx is shorter
		if a, _, err = c.ExchangeContext(ctx, m, s.at.String()); err == nil {
			err = fits(a, m)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask %v for %s: %w", s.at, m.Question[0].Name, err)
	}
	return a, nil
}

var errOther = errors.New("its answer is to another question")

// fits says what is wrong with an answer to m.
func fits(a, m *dns.Msg) error {
	if !a.Response || len(a.Question) != 1 || !sameQuestion(a.Question[0], m.Question[0]) {
		return errOther
	}
	return nil
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && (strings.EqualFold(a.Name, b.Name) || bytes.Equal(wire(a.Name), wire(b.Name)))
}

// wire is a name as it travels: o'brien.example comes back as o\'brien.example.
func wire(name string) []byte {
	var b [255]byte
	n, err := dns.PackDomainName(strings.ToLower(name), b[:], 0, nil, false)
	if err != nil {
		return []byte(name)
	}
	return b[:n]
}

var errFailure = errors.New("the resolver could not find out")

// ErrNoProof is that of an empty answer without SOA record: what RFC 2308
// section 2.2 lets pass for a no is also what a lame server, a forwarder in
// between and a referral look like.
var ErrNoProof = errors.New("the answer is empty, and no zone vouches for that")

// read makes an answer of a message, with the least TTL of what it says.
func read(m *dns.Msg, q question) (Answer, time.Duration) {
	switch m.Rcode {
	case dns.RcodeNameError:
		return Answer{State: NoName}, negativeTTL(m)
	case dns.RcodeSuccess:
	default:
		return Answer{State: Failed, Err: fmt.Errorf("%w: %s for %s", errFailure, dns.RcodeToString[m.Rcode], q.name)}, 0
	}
	var found []dns.RR
	ttl := ^uint32(0)
	for _, rr := range m.Answer {
		ttl = min(ttl, rr.Header().Ttl) // a CNAME's too
		if rr.Header().Rrtype == q.kind && rr.Header().Class == dns.ClassINET {
			found = append(found, rr)
		}
	}
	switch {
	case len(found) > 0:
	case !vouched(m):
		return Answer{State: Failed, Err: fmt.Errorf("%w: %s", ErrNoProof, q.name)}, 0
	default:
		return Answer{State: NoData}, negativeTTL(m)
	}
	return Answer{State: Found, Records: found}, time.Duration(ttl) * time.Second
}

// vouched says whether a no comes with the SOA record of its zone.
func vouched(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// negativeTTL is how long a no holds (RFC 2308 section 5); without an SOA
// record, as long as the asker's bounds allow.
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
		}
	}
	return 24 * time.Hour
}
