package dns

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	fresh      = 5 * time.Second       // how long canaries are believed
	freshNo    = 50 * time.Millisecond // for what somebody may be refused or put off for
	overdue    = probeWait / 4         // from then on canaries that are silent speak for themselves
	probeEvery = 30 * time.Second      // when nobody asks
	probeWait  = 2 * time.Second
)

// server is one resolver of ours, and how it is.
type server struct {
	at netip.AddrPort

	mu      sync.Mutex
	asking  time.Time // since when canaries are under way, by the network's clock; zero: they are not
	checked time.Time
	why     string // "": it can be believed
	since   time.Time
}

// ServerStatus is how one resolver is.
type ServerStatus struct {
	Server  netip.AddrPort `json:"server"`
	Why     string         `json:"why,omitempty"` // it cannot be believed; "": it can
	Since   time.Time      `json:"since,omitzero"`
	Checked time.Time      `json:"checked,omitzero"` // zero: never yet
}

// Status is how the resolvers are.
type Status struct {
	Servers []ServerStatus `json:"servers"`
	Sick    string         `json:"sick,omitempty"` // why nothing is known of anybody; "": all is well
	Kept    int            `json:"kept"`           // answers
}

// health is the resolver as a whole.
type health struct {
	mu  sync.Mutex
	why string
}

// Sick says why no server can be believed; "": one can, as far as is known.
func (r *Resolver) Sick() string {
	r.sick.mu.Lock()
	defer r.sick.mu.Unlock()
	return r.sick.why
}

// Status returns how the servers are.
func (r *Resolver) Status() Status {
	st := Status{Servers: []ServerStatus{}, Sick: r.Sick(), Kept: r.cache.len()}
	for _, s := range r.set.Load().servers {
		s.mu.Lock()
		st.Servers = append(st.Servers, ServerStatus{s.at, s.why, s.since, s.checked})
		s.mu.Unlock()
	}
	return st
}

// Run looks after the servers until ctx ends: also when no mail comes, and when
// the machine is told of others.
func (r *Resolver) Run(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		r.Probe()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if set := r.set.Load(); !set.fixed {
			r.Use(nil, set.timeout)
		}
	}
}

// Probe asks the canaries of all servers anew.
func (r *Resolver) Probe() {
	var all sync.WaitGroup
	for _, s := range r.set.Load().servers {
		all.Go(func() { r.probe(s) })
	}
	all.Wait()
	r.tell()
}

// order is the servers in the order in which to ask them: as configured, those
// that were well first.
func (r *Resolver) order(servers []*server) []*server {
	list := slices.Clone(servers)
	ill := func(s *server) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.why != "" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b *server) int { return cmp.Compare(ill(a), ill(b)) })
	return list
}

// soundAsync tells, when it is known by fresh canaries, why a server cannot be
// believed; "": it can. The canaries are asked while the question is.
func (r *Resolver) soundAsync(s *server, fresh time.Duration) <-chan string {
	told := make(chan string, 1)
	s.mu.Lock()
	why, age := s.why, r.now().Sub(s.checked)
	s.mu.Unlock()
	if age >= 0 && age < fresh {
		told <- why
		return told
	}
	go func() {
		why := r.probe(s)
		r.tell()
		told <- why
	}()
	return told
}

// probe asks the canaries of a server, once however many want to know.
func (r *Resolver) probe(s *server) string {
	why, _, _ := r.flights.Do("canaries of "+s.at.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), probeWait)
		defer cancel()
		s.mu.Lock()
		s.asking = time.Now()
		s.mu.Unlock()
		why := canaries(ctx, s.at)
		now := r.now()
		s.mu.Lock()
		defer s.mu.Unlock()
		if (s.why == "") != (why == "") || s.checked.IsZero() {
			s.since = now
		}
		s.why, s.checked, s.asking = why, now, time.Time{}
		return why, nil
	})
	return why.(string)
}

// canaries says why a server cannot be believed; "": it can.
func canaries(ctx context.Context, at netip.AddrPort) string {
	root := make(chan string, 1)
	go func() { root <- hasRoot(ctx, at) }()
	lies := inventsNames(ctx, at)
	if why := <-root; why != "" {
		return why
	}
	return lies
}

// hasRoot wants the one name that every resolver with a way out can answer for.
func hasRoot(ctx context.Context, at netip.AddrPort) string {
	switch m, err := exchangeTwice(ctx, at, question{".", dns.TypeSOA}); {
	case err != nil:
		return fmt.Sprintf("%v does not answer (%v)", at, err)
	case m.Rcode != dns.RcodeSuccess:
		return fmt.Sprintf("%v cannot resolve: it says %s to the root's SOA", at, dns.RcodeToString[m.Rcode])
	case len(m.Answer) == 0:
		return fmt.Sprintf("%v does not know the root", at)
	}
	return ""
}

// inventsNames wants a name that nobody can have, and a new one each time, so
// that no cache on the way answers for the server.
func inventsNames(ctx context.Context, at netip.AddrPort) string {
	name := fmt.Sprintf("canary-%04x.invalid.", dns.Id())
	m, err := exchangeTwice(ctx, at, question{name, dns.TypeA})
	if err == nil && len(m.Answer) > 0 {
		return fmt.Sprintf("%v lies: it resolves %s, which cannot exist", at, name)
	}
	return "" // that it does not answer, hasRoot says
}

// exchangeTwice is exchange for canaries: one lost packet makes nobody sick.
func exchangeTwice(ctx context.Context, at netip.AddrPort, q question) (m *dns.Msg, err error) {
	for range 2 {
		attempt, cancel := context.WithTimeout(ctx, probeWait/2)
		m, err = exchange(attempt, at, q)
		cancel()
		if err == nil {
			return m, nil
		}
	}
	return m, err
}

// tell says when the resolver as a whole fell sick, or became well.
func (r *Resolver) tell() {
	why := r.whySick()
	r.sick.mu.Lock()
	was := r.sick.why
	r.sick.why = why
	if (was == "") != (why == "") {
		r.changed(why)
	}
	r.sick.mu.Unlock()
}

// whySick is why no server can be believed.
func (r *Resolver) whySick() string {
	why := errNoServer.Error()
	for _, s := range r.set.Load().servers {
		s.mu.Lock()
		w, never := s.why, s.checked.IsZero()
		s.mu.Unlock()
		if w == "" || never {
			return ""
		}
		why = w
	}
	return why
}
