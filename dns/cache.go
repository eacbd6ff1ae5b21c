package dns

import (
	"sync"
	"time"
)

// mostEntries bounds the cache: some 300 bytes each.
const mostEntries = 100_000

// cache keeps answers until they expire. When it is full, it first drops what
// has expired, and then whatever it comes upon: a stranger can fill it with
// names, and must not be able to push out one name in particular.
type cache struct {
	mu      sync.Mutex
	entries map[question]entry
	swept   time.Time
}

type entry struct {
	answer Answer
	until  time.Time
}

func (c *cache) get(q question, now time.Time) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[q]
	if !ok || !now.Before(e.until) {
		return Answer{}, false
	}
	return e.answer, true
}

func (c *cache) put(q question, a Answer, until, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= mostEntries || now.Sub(c.swept) >= time.Minute {
		c.sweep(now)
	}
	c.entries[q] = entry{a, until}
}

// sweep drops what has expired, and if that is not enough a tenth of the rest.
func (c *cache) sweep(now time.Time) {
	c.swept = now
	for q, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, q)
		}
	}
	excess := len(c.entries) - mostEntries*9/10
	if len(c.entries) < mostEntries {
		excess = 0
	}
	for q := range c.entries {
		if excess <= 0 {
			return
		}
		delete(c.entries, q)
		excess--
	}
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}
