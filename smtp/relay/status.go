package relay

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Status is what weir status shows of the routes. Its keys are stable.
type Status struct {
	Backends   []BackendStatus `json:"backends"`
	Domains    []DomainStatus  `json:"domains"`
	Recipients int             `json:"known_recipients"`
	Unheard    int             `json:"unheard_outcomes"`
	Alarms     []Alarm         `json:"alarms,omitempty"`
}

// BackendStatus is one backend as its last answers tell.
type BackendStatus struct {
	Name      string            `json:"name"`
	URL       string            `json:"url"`
	State     State             `json:"state"`
	Since     time.Time         `json:"since,omitzero"`
	Reason    string            `json:"reason,omitempty"`   // why it is not up, with what to do
	Refusals  []Refusal         `json:"refusals,omitempty"` // all that make it misconfigured
	Answer    string            `json:"last_answer,omitempty"`
	At        time.Time         `json:"last_answer_at,omitzero"`
	LatencyMs float64           `json:"latency_ms"`
	Verifying int               `json:"verifying"`  // questions under way
	Sending   int               `json:"delivering"` // messages under way
	TLS       string            `json:"tls,omitempty"`
	InClear   string            `json:"in_clear,omitempty"` // why TLS is not used for a while
	Answers   map[string]uint64 `json:"answers"`            // by meaning, since the start
}

// DomainStatus is one route.
type DomainStatus struct {
	Name       string    `json:"name"`
	Backends   []string  `json:"backends"`
	Recipients string    `json:"recipients"`
	Listed     int       `json:"listed,omitempty"` // in the file
	AcceptAll  bool      `json:"accept_all"`       // its backend takes every recipient: no yes means anything
	AllSince   time.Time `json:"accept_all_since,omitzero"`
	Observe    bool      `json:"observe,omitempty"` // of the domain alone, as its owner says
	Problem    string    `json:"problem,omitempty"`
}

// Status tells how the routes are now.
func (r *Router) Status(m *Memory) Status {
	s := Status{Recipients: m.cache.size(), Unheard: m.outcomes.size()}
	for _, b := range r.backends {
		s.Backends = append(s.Backends, b.Status())
	}
	for _, name := range slices.Sorted(maps.Keys(r.routes)) {
		s.Domains = append(s.Domains, r.routes[name].status())
	}
	slices.SortFunc(s.Backends, func(a, b BackendStatus) int { return cmp.Compare(a.Name, b.Name) })
	s.Alarms = s.alarms(time.Now())
	return s
}

// Status tells how the backend is.
func (b *Backend) Status() BackendStatus {
	s := b.health.status(time.Now())
	s.Name, s.URL = b.name, b.url.String()
	s.Verifying, s.Sending = b.asking.inUse(), b.sending.inUse()
	return s
}

func (h *health) status(now time.Time) BackendStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := BackendStatus{
		State: h.state, Since: h.since, Answer: h.words, At: h.at,
		LatencyMs: float64(h.latency.Microseconds()) / 1000, TLS: h.tls,
		Answers: make(map[string]uint64, len(h.answers)),
	}
	if now.Before(h.clearUntil) {
		s.InClear = h.clearWhy
	}
	for m, n := range h.answers {
		s.Answers[string(m)] = n
	}
	if h.state == StateAway || h.state == StateThrottled {
		s.Reason = advised(h.words)
	}
	for _, domain := range slices.Sorted(maps.Keys(h.refusals)) {
		s.Refusals = append(s.Refusals, h.refusals[domain])
	}
	if len(s.Refusals) > 0 { // that is what somebody has to see to
		r := s.Refusals[0]
		s.State, s.Since, s.Reason = StateMisconfigured, r.Since, r.Reason
	}
	return s
}

func (t *route) status() DomainStatus {
	s := DomainStatus{Name: t.domain.Name, Recipients: cmp.Or(t.domain.Recipients, "backend")}
	for _, b := range t.domain.Backends {
		s.Backends = append(s.Backends, b.name)
	}
	t.directory.mu.Lock()
	s.AcceptAll, s.AllSince = t.directory.all.on, t.directory.all.since
	t.directory.mu.Unlock()
	if !s.AcceptAll {
		s.AllSince = time.Time{}
	}
	if t.list != nil {
		s.Listed, s.Problem = t.list.Len(), t.list.Problem()
	}
	return s
}
