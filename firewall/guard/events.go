package guard

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"
	"time"

	"mailweir/firewall"
	"mailweir/ref"
)

// Event is one change of what the kernel drops: a ban, one that was lifted, or
// an order of the operator's.
type Event struct {
	Kind   EventKind       `json:"kind"`
	Time   time.Time       `json:"time"`
	Prefix netip.Prefix    `json:"prefix,omitzero"`
	Until  time.Time       `json:"until,omitzero"`  // of a ban; zero: no end
	Reason firewall.Reason `json:"reason,omitzero"` // of a ban
	Ref    ref.Ref         `json:"ref,omitzero"`
	Step   uint8           `json:"step,omitzero"`
	By     string          `json:"by,omitempty"`   // who ordered it; "": the rules
	Why    string          `json:"why,omitempty"`  // in his words, or the guard that lifted it
	What   string          `json:"what,omitempty"` // of a change
}

// EventKind says what an Event is.
type EventKind string

// The kinds of events.
const (
	WasBanned EventKind = "ban"
	WasLifted EventKind = "unban"
	Changed   EventKind = "change"
)

// Events are some of the changes since guard started, oldest first.
type Events struct {
	Start  time.Time `json:"start"`  // of guard: the numbers begin anew with it
	Next   uint64    `json:"next"`   // what to ask for the next time
	Missed uint64    `json:"missed"` // older ones that are not kept any more
	Events []Event   `json:"events"`
}

const (
	keptEvents   = 4096 // for a mail role that is started again
	eventsAtOnce = 100  // in an answer of 64 KiB
)

// history keeps the last events, for the mail role to fetch.
type history struct {
	mu    sync.Mutex
	start time.Time
	next  uint64 // number of the next, from 1
	last  []Event
}

func (h *history) add(e Event) {
	const longest = 200 // bytes of an operator's words
	e.Why = clip(e.Why, longest)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	if h.last = append(h.last, e); len(h.last) >= 2*keptEvents {
		h.last = append([]Event(nil), h.last[keptEvents:]...)
	}
}

// since returns events from a number on.
func (h *history) since(n uint64) Events {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.next - uint64(len(h.last))
	e := Events{Start: h.start}
	if n = min(n, h.next); n < oldest {
		e.Missed, n = oldest-n, oldest
	}
	from := h.last[n-oldest:]
	from = from[:min(len(from), eventsAtOnce)]
	e.Events, e.Next = append([]Event{}, from...), n+uint64(len(from))
	return e
}

func (s *Server) eventsAnswer(from uint64) []byte {
	b, err := json.Marshal(s.logs.history.since(from))
	if err != nil {
		s.cfg.Log.Error("events cannot be told", "error", err)
	}
	return b
}

// Events asks guard for what has happened from a number on; 0 is the oldest that
// is kept. An error means that it does not answer.
func (c *Client) Events(ctx context.Context, from uint64) (e Events, err error) {
	err = c.tell(ctx, ask(askEvents, from), &e)
	return e, err
}
