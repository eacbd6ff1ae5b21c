package relay

import (
	"errors"
	"sync"
	"time"
)

// State is how a backend is, as its last answers tell.
type State string

// The states.
const (
	StateUnknown       State = "unknown" // not spoken to yet
	StateUp            State = "up"
	StateAway          State = "away"
	StateThrottled     State = "throttled"
	StateMisconfigured State = "misconfigured" // it refuses us: somebody has to mend it
)

// backoff is how long a backend is left alone after it could not be reached.
const backoff = time.Second

// health keeps what a backend's answers tell about it. Its zero value is ready.
type health struct {
	mu       sync.Mutex
	state    State // but for misconfiguration, which is in refusals
	since    time.Time
	refusals map[string]Refusal // of us, by domain; "" is for all of them

	words   string // of the last answer
	at      time.Time
	latency time.Duration // a moving average over some ten answers
	retryAt time.Time

	ext        extensions
	met        bool   // ext is known
	called     string // what the server calls itself
	tls        string
	clearUntil time.Time
	clearWhy   string

	answers map[Meaning]uint64
}

// Refusal says that a backend refuses us, and not a message or a recipient.
type Refusal struct {
	Domain string    `json:"domain,omitempty"` // whose mail it refuses; "" is all mail
	Since  time.Time `json:"since"`
	Stage  Stage     `json:"stage"`
	Reason string    `json:"reason"` // its words, and what to do
}

// answer is one, as health looks at it.
type answer struct {
	at      time.Time
	took    time.Duration
	stage   Stage
	domain  string // of the recipient
	meaning Meaning
	words   string
}

// saw takes in one answer. An answer that was not of the backend changes
// nothing.
func (h *health) saw(a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answers == nil {
		h.answers = make(map[Meaning]uint64)
		h.refusals = make(map[string]Refusal)
	}
	h.answers[a.meaning]++
	h.words, h.at = printable(a.words, 300), a.at
	if h.latency == 0 {
		h.latency = a.took
	}
	h.latency += (a.took - h.latency) / 10
	switch a.meaning {
	case Away:
		h.become(a.at, StateAway)
	case Throttled:
		h.become(a.at, StateThrottled)
	case Misconfigured:
		h.become(a.at, StateUp) // it answers
		h.refused(a)
	default:
		h.become(a.at, StateUp)
		h.mended(a, "")
		h.mended(a, a.domain)
	}
}

func (h *health) become(now time.Time, s State) {
	if h.state != s {
		h.state, h.since = s, now
	}
}

// refused keeps a refusal of us: at RCPT and behind it is that of a domain,
// before it that of all.
func (h *health) refused(a answer) {
	domain := a.domain
	if order[a.stage] < order[AtRcpt] {
		domain = ""
	}
	r, ok := h.refusals[domain]
	if !ok {
		r = Refusal{Domain: domain, Since: a.at}
	}
	r.Stage, r.Reason = a.stage, advised(h.words)
	h.refusals[domain] = r
}

// mended ends a refusal when an answer came at or behind its stage: one at RCPT
// is not mended by a greeting.
func (h *health) mended(a answer, domain string) {
	if r, ok := h.refusals[domain]; ok && order[a.stage] >= order[r.Stage] {
		delete(h.refusals, domain)
	}
}

// advised is an answer with what can be done about it.
func advised(words string) string {
	if hint := remedy(words); hint != "" {
		return words + " (" + hint + ")"
	}
	return words
}

var order = map[Stage]int{AtGreeting: 0, AtHello: 1, AtTLS: 2, AtMail: 3, AtRcpt: 4, AtData: 5, AtBody: 6}

// dialled takes in a try to connect. One that was given up by its caller says
// nothing of the backend.
func (h *health) dialled(now time.Time, c *client, err error, givenUp bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.ext, h.met, h.called, h.tls, h.retryAt = c.ext, true, c.name, c.tls, time.Time{}
		return
	}
	if !givenUp && isTransport(err) && !errors.Is(err, errBackoff) {
		h.retryAt = now.Add(backoff)
		h.words = printable(err.Error(), 300)
	}
}

func (h *health) backingOff(now time.Time) (words string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.words, now.Before(h.retryAt)
}

func (h *health) clear(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clearUntil, h.clearWhy = time.Now().Add(clearFor), printable(why, 200)
}

func (h *health) inClear(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.clearUntil)
}

func (h *health) is(s State) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state == s
}

// extensions are those of the last connection.
func (h *health) extensions() (e extensions, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ext, h.met
}

// name is what the server calls itself.
func (h *health) name() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.called
}

// quietSince says whether nothing was heard of the backend since t.
func (h *health) quietSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.at.After(t)
}

// printable makes a stranger's text fit for a terminal, a log and a reply.
func printable(s string, most int) string {
	b := []byte(cut(s, most))
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
