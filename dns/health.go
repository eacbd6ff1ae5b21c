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
	fresh      = 50 * time.Millisecond // how long a server is believed
	illFor     = 5 * time.Second       // how long one that cannot be is not asked
	overdue    = probeWait / 4         // how long canaries may take where nobody has time any more
	settle     = overdue / 10          // how long after them an answer may come that was sent before
	probeEvery = 30 * time.Second      // when nobody asks
	probeSick  = illFor                // the same while nothing is known of anybody
	probeWait  = 2 * time.Second

	// outEvery is how often a way out is asked for where look-ups fail one after
	// the other: who failed meanwhile waits for the next. Each costs the servers
	// of the root a question, which nothing keeps.
	outEvery = 250 * time.Millisecond
)

// server is one resolver of ours, and how it is.
type server struct {
	at      netip.AddrPort
	sockets sockets

	mu      sync.Mutex
	checked time.Time // when the last canaries were sent off
	out     time.Time // when the last that want a way out were
	wanted  time.Time // the same by the clock of the network
	why     string    // "": it can be believed
	changed time.Time // since when
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
		st.Servers = append(st.Servers, ServerStatus{s.at, s.why, s.changed, s.checked})
		s.mu.Unlock()
	}
	return st
}

// Run looks after the servers until ctx ends: also when no mail comes, and when
// the machine is told of others.
func (r *Resolver) Run(ctx context.Context) {
	tick := time.NewTicker(probeSick)
	defer tick.Stop()
	for n := 0; ; n++ {
		if r.Sick() != "" || n%int(probeEvery/probeSick) == 0 {
			r.Probe()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		set := r.set.Load()
		for _, s := range set.servers {
			s.sockets.tidy(time.Now())
		}
		if !set.fixed {
			r.Use(nil, set.timeout)
		}
	}
}

// Probe asks the canaries of all servers anew.
func (r *Resolver) Probe() {
	var all sync.WaitGroup
	for _, s := range r.set.Load().servers {
		all.Go(func() { r.probe(s, true) })
	}
	all.Wait()
	r.tell() // also that there is none
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
func (r *Resolver) soundAsync(s *server, out bool) <-chan string {
	told := make(chan string, 1)
	now := r.now()
	if why, ok := s.since(now.Add(-fresh), out); ok {
		told <- why
		return told
	}
	go func() {
		why := r.probe(s, out)
		if later, ok := s.since(now.Add(-fresh), out); ok {
			why = later
		} else if why == "" { // they were under way for somebody else, and tell of then
			why = r.probe(s, out)
		}
		told <- why
	}()
	return told
}

// since is why a server cannot be believed, by canaries sent off after a moment;
// false: there are none.
func (s *server) since(t time.Time, out bool) (why string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.checked
	if out {
		sent = s.out
	}
	return s.why, sent.After(t)
}

// ill says why a server need not be asked, by canaries of a short while ago.
func (s *server) ill(now time.Time) string {
	if why, ok := s.since(now.Add(-illFor), false); ok {
		return why
	}
	return ""
}

// probe asks the canaries of a server, once however many want to know. One that
// was ill is well only with a way out: its cache may have the root for days.
func (r *Resolver) probe(s *server, out bool) string {
	s.mu.Lock()
	out = out || s.why != ""
	s.mu.Unlock()
	why, _, _ := r.flights.Do(fmt.Sprintf("canaries of %v %t", s.at, out), func() (any, error) {
		if out {
			s.await()
		}
		ctx, cancel := context.WithTimeout(context.Background(), probeWait)
		defer cancel()
		sent := r.now()
		why := canaries(ctx, s, out)
		s.found(why, sent, out)
		r.tell()
		return why, nil
	})
	return why.(string)
}

// await waits until canaries that want a way out may be sent again.
func (s *server) await() {
	s.mu.Lock()
	rest := outEvery - time.Since(s.wanted)
	s.wanted = time.Now().Add(max(0, rest))
	s.mu.Unlock()
	time.Sleep(rest)
}

// found takes in what canaries told.
func (s *server) found(why string, sent time.Time, out bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sent.Before(s.checked) || why == "" && s.why != "" && !out {
		return // more is known by now: it fell ill meanwhile
	}
	if (s.why == "") != (why == "") || s.checked.IsZero() {
		s.changed = sent
	}
	s.why, s.checked = why, sent
	if out {
		s.out = sent
	}
}

// canaries says why a server cannot be believed; "": it can.
func canaries(ctx context.Context, s *server, out bool) string {
	checks := []func(context.Context, *server) string{hasRoot, inventsNames}
	if out {
		checks = append(checks, hasWayOut)
	}
	told := make([]string, len(checks))
	var all sync.WaitGroup
	for i, check := range checks {
		all.Go(func() { told[i] = check(ctx, s) })
	}
	all.Wait()
	return cmp.Or(told...)
}

// hasRoot wants the one name that every resolver with a way out can answer for.
func hasRoot(ctx context.Context, s *server) string {
	switch m, err := exchangeTwice(ctx, s, question{".", dns.TypeSOA}); {
	case err != nil:
		return fmt.Sprintf("%v does not answer (%v)", s.at, err)
	case m.Rcode != dns.RcodeSuccess:
		return fmt.Sprintf("%v cannot resolve: it says %s to the root's SOA", s.at, dns.RcodeToString[m.Rcode])
	case len(m.Answer) == 0:
		return fmt.Sprintf("%v does not know the root", s.at)
	}
	return ""
}

// inventsNames wants a name that nobody can have, and a new one each time, so
// that no cache on the way answers for the server.
func inventsNames(ctx context.Context, s *server) string {
	name := fmt.Sprintf("canary-%04x.invalid.", dns.Id())
	m, err := exchangeTwice(ctx, s, question{name, dns.TypeA})
	if err == nil && len(m.Answer) > 0 {
		return fmt.Sprintf("%v lies: it resolves %s, which cannot exist", s.at, name)
	}
	return "" // that it does not answer, hasRoot says
}

// hasWayOut wants any answer for a name that no cache can have, nor make up of
// what it has (RFC 8198: its zone is not signed), and that the servers of the
// root have themselves. They are asked only where a look-up failed.
func hasWayOut(ctx context.Context, s *server) string {
	name := fmt.Sprintf("canary-%04x.root-servers.net.", dns.Id())
	switch m, err := exchangeTwice(ctx, s, question{name, dns.TypeA}); {
	case err != nil:
		return fmt.Sprintf("%v has no way out (%v)", s.at, err)
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return fmt.Sprintf("%v has no way out: it says %s to %s", s.at, dns.RcodeToString[m.Rcode], name)
	}
	return ""
}

// exchangeTwice is exchange for canaries: one lost packet makes nobody sick.
func exchangeTwice(ctx context.Context, s *server, q question) (m *dns.Msg, err error) {
	for range 2 {
		attempt, cancel := context.WithTimeout(ctx, probeWait/2)
		m, err = exchange(attempt, s, q)
		cancel()
		if err == nil {
			return m, nil
		}
	}
	return m, err
}

// tell says when the resolver as a whole fell sick, or became well.
func (r *Resolver) tell() {
	r.sick.mu.Lock()
	defer r.sick.mu.Unlock()
	was, why := r.sick.why, r.whySick()
	r.sick.why = why
	if (was == "") != (why == "") {
		r.changed(why)
	}
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
