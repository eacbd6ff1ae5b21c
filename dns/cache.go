package dns

import (
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of the cache. A stranger chooses how long the answers about his names
// are, and how many names he has: 64 KiB over TCP are most of a MiB here.
const (
	mostEntries = 100_000
	mostOctets  = 64 << 20
	mostOfOne   = 32 << 10 // a longer answer is not kept: few of them would push out all others
)

// cache keeps answers until they expire. When it is full, it first drops what
// has expired, and then whatever it comes upon: a stranger can fill it with
// names, and must not be able to push out one name in particular.
type cache struct {
	mu      sync.Mutex
	entries map[question]entry
	octets  int // of all entries
	swept   time.Time
}

type entry struct {
	answer Answer
	until  time.Time
	octets int
}

// What a record takes besides its text: the struct, its header, the slices.
const (
	perEntry  = 200
	perRecord = 150
)

// octetsOf is about how much memory an answer takes while it is kept.
func octetsOf(q question, a Answer) int {
	n := perEntry + len(q.name)
	for _, rr := range a.Records {
		n += perRecord + dns.Len(rr)
	}
	return n
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
	n := octetsOf(q, a)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(q)
	if n > mostOfOne {
		return
	}
	if c.full(n) || now.Sub(c.swept) >= time.Minute {
		c.sweep(now, n)
	}
	c.entries[q] = entry{a, until, n}
	c.octets += n
}

// full says whether there is no room for an entry of n octets.
func (c *cache) full(n int) bool {
	return len(c.entries) >= mostEntries || c.octets+n > mostOctets
}

func (c *cache) drop(q question) {
	c.octets -= c.entries[q].octets
	delete(c.entries, q)
}

// sweep drops what has expired, and if that makes no room for n octets a tenth
// of the rest.
func (c *cache) sweep(now time.Time, n int) {
	c.swept = now
	for q, e := range c.entries {
		if !now.Before(e.until) {
			c.drop(q)
		}
	}
	if !c.full(n) {
		return
	}
	for q := range c.entries {
		if len(c.entries) <= mostEntries*9/10 && c.octets+n <= mostOctets*9/10 {
			return
		}
		c.drop(q)
	}
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}
