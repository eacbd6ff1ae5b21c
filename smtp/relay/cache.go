package relay

import (
	"slices"
	"strings"
	"sync"
	"time"

	"mailweir/smtp/address"
)

// How long we know what a backend said of a recipient.
const (
	yesFresh  = 24 * time.Hour      // after that it is asked again, in the background
	yesSpoken = 7 * 24 * time.Hour  // after that it is asked before it is spoken
	yesStale  = 31 * 24 * time.Hour // so long it serves while the backend is away
	noApart   = 10 * time.Minute    // between the two noes that a yes takes to die
	noSpoken  = time.Minute
)

// maxRecipients bounds the cache. An entry takes some 140 bytes with its key
// and its share of the map, so a full one some 35 MB. Only recipients that a
// backend took get in, so a full cache means that many real ones; an entry that
// is thrown out costs a question to the backend, no more.
const maxRecipients = 250_000

// cache knows the recipients that a backend took. Its keys are canonical:
// domains are so anyway, and the local part is in lower case, since all but no
// backend looks at its case. Where one does, a yes for Joe@ may be spoken for
// joe@; the backend's refusal at delivery then drops it. A no is never shared
// so, because a wrong one would be final.
type cache struct {
	mu    sync.Mutex
	yes   map[string]entry
	most  int
	dirty bool

	noes, older map[address.Mailbox]finding // the last minute's
	turned      time.Time                   // when noes became older

	doubted map[address.Mailbox]struct{} // refused at delivery, and not taken since
}

// entry is a yes, in seconds of Unix time.
type entry struct {
	yes   int64 // last said; 0: to be asked before it is spoken
	last  int64 // the same, and never 0: for while the backend is away
	doubt int64 // when a no came since; 0: none
}

func newCache() *cache {
	return &cache{yes: make(map[string]entry), noes: make(map[address.Mailbox]finding), doubted: make(map[address.Mailbox]struct{}), most: maxRecipients}
}

func keyOf(to address.Mailbox) string { return strings.ToLower(to.Local) + "@" + to.Domain }

// known is what the cache has for one recipient.
type known struct {
	yes   bool // can be spoken
	due   bool // and should be asked again in the background
	stale bool // can be spoken while the backend is away
	no    bool // can be spoken
}

func (c *cache) look(to address.Mailbox, now time.Time) known {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := known{no: c.spokenNo(to, now)}
	e, ok := c.yes[keyOf(to)]
	if !ok {
		return k
	}
	age := now.Sub(time.Unix(e.yes, 0))
	k.yes = age < yesSpoken
	k.stale = now.Sub(time.Unix(e.last, 0)) < yesStale
	k.due = age >= yesFresh && e.doubt == 0 || e.doubt != 0 && now.Sub(time.Unix(e.doubt, 0)) >= noApart
	return k
}

// accept takes in a yes.
func (c *cache) accept(to address.Mailbox, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.noes, to)
	delete(c.older, to)
	delete(c.doubted, to)
	c.room()
	c.yes[keyOf(to)] = entry{yes: now.Unix(), last: now.Unix()}
	c.dirty = true
}

// refuse takes in a definitive no and says whether an older yes survives it:
// the first no may be that of a directory which is being mended, so it takes a
// second one, at least noApart later.
func (c *cache) refuse(to address.Mailbox, f finding) (survives bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOf(to)
	e, ok := c.yes[key]
	if ok && f.at.Sub(time.Unix(e.last, 0)) < yesStale {
		if e.doubt == 0 {
			e.doubt = f.at.Unix()
			c.yes[key], c.dirty = e, true
			return true
		}
		if f.at.Sub(time.Unix(e.doubt, 0)) < noApart {
			return true
		}
	}
	if ok {
		delete(c.yes, key)
		c.dirty = true
	}
	c.remember(to, f)
	return false
}

// remember keeps a no for the minute in which it may be spoken. There are two
// generations of them, so that an attack, after which none is asked for again,
// costs no more than filling them.
func (c *cache) remember(to address.Mailbox, f finding) {
	const most = 10_000
	if len(c.noes) >= most || f.at.Sub(c.turned) >= noSpoken {
		c.older, c.noes, c.turned = c.noes, make(map[address.Mailbox]finding), f.at
	}
	c.noes[to] = f
}

// spokenNo returns a no that may still be spoken.
func (c *cache) spokenNo(to address.Mailbox, now time.Time) bool {
	f, ok := c.noes[to]
	if !ok {
		f, ok = c.older[to]
	}
	return ok && now.Sub(f.at) < noSpoken
}

// drop forgets a yes that the backend belied at delivery: the next RCPT is
// asked live.
func (c *cache) drop(to address.Mailbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.yes, keyOf(to))
	c.dirty = true
	c.distrust(to)
}

// forget drops the yeses for a domain that came after t, the last time when one
// meant something. Those before it stay.
func (c *cache) forget(domain string, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.yes {
		if e.last > t.Unix() && strings.HasSuffix(k, "@"+domain) {
			delete(c.yes, k)
			c.dirty = true
		}
	}
}

// recheck has the next RCPT asked live, but keeps the yes for while the backend
// is away.
func (c *cache) recheck(to address.Mailbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.yes[keyOf(to)]; ok {
		e.yes = 0
		c.yes[keyOf(to)], c.dirty = e, true
	}
	c.distrust(to)
}

// maxDoubted bounds the recipients that a list names and the backend refused.
const maxDoubted = 10_000

func (c *cache) distrust(to address.Mailbox) {
	if len(c.doubted) >= maxDoubted {
		clear(c.doubted)
	}
	c.doubted[to] = struct{}{}
}

// doubts says whether a listed recipient has to be asked live.
func (c *cache) doubts(to address.Mailbox) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.doubted[to]
	return ok
}

// room makes place for one more: of a few entries, one with a tag (jane+x@)
// goes, of which one mailbox has as many as a stranger makes up, else the one
// not confirmed for longest.
func (c *cache) room() {
	if len(c.yes) < c.most {
		return
	}
	oldest, looked := "", 0
	for k, e := range c.yes { // begins anywhere
		switch tagged, was := strings.Contains(k, "+"), strings.Contains(oldest, "+"); {
		case oldest == "", tagged && !was, tagged == was && e.last < c.yes[oldest].last:
			oldest = k
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(c.yes, oldest)
}

// good returns a recipient of domain that was taken lately, but for some: the
// latest of some, and one that was refused since only where there is no other.
func (c *cache) good(domain string, but ...address.Mailbox) (to address.Mailbox, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var best entry
	suffix := "@" + domain
	seen := 0
	for k, e := range c.yes {
		local, ok := strings.CutSuffix(k, suffix)
		if !ok || e.yes == 0 || slices.ContainsFunc(but, func(b address.Mailbox) bool { return b.Local == local }) || found && !e.better(best) {
			continue
		}
		best, found = e, true
		to = address.Mailbox{Local: local, Domain: domain}
		if seen++; seen == 64 {
			break
		}
	}
	return to, found
}

// better says whether more is to be expected of e than of another.
func (e entry) better(than entry) bool {
	if (e.doubt == 0) != (than.doubt == 0) {
		return e.doubt == 0
	}
	return e.last > than.last
}

func (c *cache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.yes)
}
