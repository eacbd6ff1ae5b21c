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
	mu    sync.Mutex
	state State
	since time.Time

	words   string // of the last answer
	at      time.Time
	latency time.Duration // a moving average over some ten answers

	trouble   string // why the state is not up, with what to do
	refusedAt Stage  // where it is misconfigured: only going further mends it
	retryAt   time.Time

	ext        extensions
	met        bool   // ext is known
	called     string // what the server calls itself
	tls        string
	clearUntil time.Time
	clearWhy   string

	answers map[Meaning]uint64
}

// saw takes in one answer. A refusal at RCPT is not mended by a greeting that
// works: the stage is kept, and only an answer at or behind it counts.
func (h *health) saw(now time.Time, took time.Duration, m Meaning, words string, stage Stage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answers == nil {
		h.answers = make(map[Meaning]uint64)
	}
	h.answers[m]++
	h.words, h.at = printable(words, 300), now
	if h.latency == 0 {
		h.latency = took
	}
	h.latency += (took - h.latency) / 10
	switch m {
	case Away:
		h.become(now, StateAway, "")
	case Throttled:
		h.become(now, StateThrottled, "")
	case Misconfigured:
		h.become(now, StateMisconfigured, stage)
	default:
		h.recovered(now, stage)
	}
}

func (h *health) become(now time.Time, s State, stage Stage) {
	if h.state == StateMisconfigured && s != StateMisconfigured {
		return // still what the operator has to see first
	}
	if h.state != s {
		h.state, h.since = s, now
	}
	h.refusedAt = stage
	h.trouble = h.words
	if hint := remedy(h.words); hint != "" {
		h.trouble += " (" + hint + ")"
	}
}

func (h *health) recovered(now time.Time, stage Stage) {
	if h.state == StateMisconfigured && order[stage] < order[h.refusedAt] {
		return
	}
	if h.state != StateUp {
		h.state, h.since = StateUp, now
	}
	h.trouble, h.refusedAt = "", ""
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
