package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/harvest"
	"mailweir/smtp/relay"
)

// canaries knows which directories can be believed. It asks a domain's backend
// for a recipient that was good and for one that cannot exist: before a
// conviction, when a directory says nothing but no, and as long as one is
// broken; at most once a minute a domain, and the answer stands for an hour.
type canaries struct {
	now    func() time.Time
	log    *slog.Logger
	watch  *harvest.Watch
	probe  func(ctx context.Context, domain string) (relay.Canary, bool)
	doubts chan string

	mu   sync.Mutex
	last map[string]canary
}

// canary is the last answer of a domain that said something, and when it was
// last asked: one that was not answered says nothing, and takes the place of
// none that was.
type canary struct {
	relay.Canary
	asked time.Time
}

// answered says whether the directory spoke of the good recipient. That he can
// take nothing for now, being full, shows that it knows him.
func answered(k relay.Canary) bool {
	return k.Known == "" || k.Known == relay.Taken || k.Known == relay.RecipientForNow || k.Broken()
}

const (
	canaryKept  = time.Hour
	canaryEvery = time.Minute
	canaryTime  = 30 * time.Second

	// doubtsKept bounds the domains that wait for a canary; another comes with
	// the next recipients.
	doubtsKept = 256
)

func newCanaries(now func() time.Time, log *slog.Logger) *canaries {
	return &canaries{now: now, log: log, doubts: make(chan string, doubtsKept), last: map[string]canary{}}
}

// doubt takes note of a domain whose directory says nothing but no. It never
// blocks: the engine calls it.
func (c *canaries) doubt(domain string) {
	select {
	case c.doubts <- domain:
	default:
	}
}

// run sends the canaries that are due until ctx ends.
func (c *canaries) run(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-c.doubts:
			c.ask(ctx, d, canaryEvery)
		case <-tick:
			for _, d := range c.broken() {
				c.ask(ctx, d, 0)
			}
		}
	}
}

// broken are the domains that are to be asked again.
func (c *canaries) broken() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, k := range c.last {
		if k.Broken() {
			list = append(list, d)
		}
	}
	return list
}

// ask returns the last canary of a domain if it is younger than fresh, else
// sends one. false: nobody could be asked.
func (c *canaries) ask(ctx context.Context, domain string, fresh time.Duration) (relay.Canary, bool) {
	if k, ok := c.kept(domain, fresh); ok {
		return k, true
	}
	ctx, cancel := context.WithTimeout(ctx, canaryTime)
	defer cancel()
	k, served := c.probe(ctx, domain)
	if !served {
		return k, false
	}
	k.At = c.now()
	k = c.keep(domain, k)
	switch {
	case k.Broken():
		detail := fmt.Sprintf("a recipient that it is known to have is refused: %s", k.Words)
		c.log.Error("the directory is broken: unknown recipients hear 451 and nobody is convicted; see to the server behind",
			"domain", domain, "answer", k.Words)
		c.watch.Canary(k.At, domain, true, detail)
	case k.Healthy():
		c.watch.Canary(k.At, domain, false, "")
	}
	return k, true
}

// kept returns the last canary of a domain, unless another is due.
func (c *canaries) kept(domain string, fresh time.Duration) (relay.Canary, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.last[domain]
	if !answered(last.Canary) {
		fresh = min(fresh, canaryEvery)
	}
	now := c.now()
	return last.Canary, ok && (now.Sub(last.At) < fresh || now.Sub(last.asked) < min(fresh, canaryEvery))
}

// keep enters a canary and returns the one that counts.
func (c *canaries) keep(domain string, k relay.Canary) relay.Canary {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.last[domain]
	if ok && !answered(k) && answered(last.Canary) && k.At.Sub(last.At) < canaryKept {
		c.last[domain] = canary{last.Canary, k.At}
		return last.Canary
	}
	c.last[domain] = canary{k, k.At}
	return k
}

// Sick implements smtp.Canary. A domain of which no good recipient is known is
// believed: nothing speaks against its directory. One that cannot be asked is
// not, but for a minute only: who keeps it busy would guess for free.
func (c *canaries) Sick(ctx context.Context, domain string) (why string, said smtp.OracleState) {
	k, ok := c.ask(ctx, domain, canaryKept)
	switch {
	case k.Broken() && ok:
		return "a recipient that it is known to have is refused: " + k.Words, smtp.Unknown
	case !ok || answered(k):
		return "", smtp.Valid
	}
	return "it cannot be asked: " + k.Words, smtp.Unavailable
}
