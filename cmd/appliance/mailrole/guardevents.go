package mailrole

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mailweir/config"
	"mailweir/firewall/guard"
	"mailweir/record"
)

// fetchEvents is how long a ban takes to become an event at the most.
const fetchEvents = time.Second

// heard is how far guard's events were told. It outlives this process, so that
// none is told twice, and those of a restart are not left out.
type heard struct {
	Start time.Time `json:"start"` // of the guard that counted
	Next  uint64    `json:"next"`
}

// listener makes events of what guard did.
type listener struct {
	ask  func(context.Context, uint64) (guard.Events, error)
	log  *record.Log
	path string // where heard is kept
	heard
}

func newListener(c *guard.Client, log *record.Log, dir string) *listener {
	l := &listener{ask: c.Events, log: log, path: filepath.Join(dir, "guard.heard")}
	if b, err := os.ReadFile(l.path); err == nil && json.Unmarshal(b, &l.heard) != nil {
		l.heard = heard{} // all that guard keeps is told again
	}
	return l
}

// run asks at each tick.
func (l *listener) run(ctx context.Context, tick <-chan time.Time) {
	for {
		for l.fetch(ctx) {
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

// fetch says whether there was something, so that there may be more. That guard
// does not answer is an alarm elsewhere.
func (l *listener) fetch(ctx context.Context) bool {
	e, err := l.ask(ctx, l.Next)
	if err != nil {
		return false
	}
	if !e.Start.Equal(l.Start) {
		fresh := l.Next == 0
		l.heard = heard{Start: e.Start}
		if !fresh {
			return true // from its beginning
		}
	}
	if e.Missed > 0 {
		l.log.Change("guard", "bans", fmt.Sprintf("%d changes were too many to be told one by one", e.Missed))
	}
	for _, x := range e.Events {
		l.tell(x)
	}
	if len(e.Events) == 0 && l.Next == e.Next {
		return false
	}
	l.Next = e.Next
	if b, err := json.Marshal(l.heard); err == nil {
		config.WriteFile(l.path, b, 0o600, nil) // else some are told twice after a restart
	}
	return len(e.Events) > 0
}

func (l *listener) tell(x guard.Event) {
	if x.Kind == guard.Changed {
		l.log.Change(x.By, x.What, x.Why)
		return
	}
	b := record.Ban{Time: x.Time, Prefix: x.Prefix, Until: x.Until, Reason: x.Reason.String(), Ref: x.Ref, Step: int(x.Step), By: x.By, Why: x.Why}
	if x.Kind == guard.WasLifted {
		l.log.Unban(b)
		return
	}
	l.log.Ban(b)
}
