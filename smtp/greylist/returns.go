package greylist

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Returns counts which pools come back (R-BW-23, R-RN-17). Fewer than one mail
// server in ten thousand is said to be unable to; here it is measured. Pools
// that are no more than a network are not counted: who has neither a name nor
// SPF is hardly a mail server, and would hide those that are.
type Returns struct {
	mu    sync.Mutex
	pools map[string]*pool
}

// NewReturns returns an empty count.
func NewReturns() *Returns { return &Returns{pools: map[string]*pool{}} }

const (
	maxPools = 1 << 14
	// maxContacts bounds what one pool waits for; lostFor distinct mails that
	// never came back, and none that did, are a server that cannot retry.
	maxContacts = 16
	// handful is how many pools are looked at for one to forget.
	handful = 16
	lostFor = 3
)

type pool struct {
	Waiting []contact `json:"waiting,omitempty"`
	Came    int       `json:"came"` // contacts that came back
	Lost    int       `json:"lost"` // contacts whose window is over
	Sender  string    `json:"sender"`
	Last    moment    `json:"last"`
}

type contact struct {
	Key   Key    `json:"key"`
	First moment `json:"first"`
}

// Lost is a pool that never came back.
type Lost struct {
	Pool   string    `json:"pool"`   // "name:example.com", "spf:example.com"
	Mails  int       `json:"mails"`  // distinct ones that were put off in vain
	Sender string    `json:"sender"` // of the latest
	Last   time.Time `json:"last"`
}

// Report is how many come back.
type Report struct {
	Pools      int     `json:"pools"`         // of which it is known
	Never      int     `json:"never"`         // of them, that came back for nothing
	PerTenThou float64 `json:"per_10000"`     // never, of ten thousand pools
	Lost       []Lost  `json:"never_retried"` // with lostFor mails at least, most first
}

// Note takes in what Meet answered to a contact.
func (r *Returns) Note(now time.Time, window time.Duration, c Contact, a Answer) {
	if strings.HasPrefix(c.Pool, "addr:") {
		return
	}
	key := hash([16]byte{}, Canonical(c.Sender), strings.ToLower(c.Recipient))
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pools[c.Pool]
	if p == nil {
		if a.State != First {
			return // it was before we counted, or is forgotten
		}
		r.makeRoom()
		p = &pool{}
		r.pools[c.Pool] = p
	}
	p.settle(now, window)
	p.Last = at(now)
	i := slices.IndexFunc(p.Waiting, func(e contact) bool { return e.Key == key })
	switch {
	case a.State == First && i < 0:
		p.Sender = c.Sender
		if len(p.Waiting) < maxContacts {
			p.Waiting = append(p.Waiting, contact{key, at(now)})
		}
	case a.State == Passed && i >= 0:
		p.Waiting = slices.Delete(p.Waiting, i, i+1)
		p.Came++
	}
}

// settle counts the contacts that nobody can come back for any more.
func (p *pool) settle(now time.Time, window time.Duration) {
	p.Waiting = slices.DeleteFunc(p.Waiting, func(c contact) bool {
		over := now.Sub(time.Unix(int64(c.First), 0)) >= window
		if over {
			p.Lost++
		}
		return over
	})
}

// makeRoom forgets a pool that was silent for long: of a handful, which the map
// picks at random, the one that was for longest. A flood of new pools would have
// every one of them look through all others.
func (r *Returns) makeRoom() {
	if len(r.pools) < maxPools {
		return
	}
	var oldest string
	seen := 0
	for name, p := range r.pools {
		if o := r.pools[oldest]; o == nil || p.Last < o.Last {
			oldest = name
		}
		if seen++; seen == handful {
			break
		}
	}
	delete(r.pools, oldest)
}

// Report says how many pools come back.
func (r *Returns) Report(now time.Time, window time.Duration) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rep Report
	for name, p := range r.pools {
		p.settle(now, window)
		if p.Came == 0 && p.Lost == 0 {
			continue // not known yet
		}
		rep.Pools++
		if p.Came > 0 {
			continue
		}
		rep.Never++
		if p.Lost >= lostFor {
			rep.Lost = append(rep.Lost, Lost{name, p.Lost, p.Sender, time.Unix(int64(p.Last), 0).UTC()})
		}
	}
	if rep.Pools > 0 {
		rep.PerTenThou = 10_000 * float64(rep.Never) / float64(rep.Pools)
	}
	slices.SortFunc(rep.Lost, func(a, b Lost) int {
		return cmp.Or(cmp.Compare(b.Mails, a.Mails), cmp.Compare(a.Pool, b.Pool))
	})
	return rep
}

// Save writes the count as JSON.
func (r *Returns) Save(out io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := json.NewEncoder(out).Encode(r.pools); err != nil {
		return fmt.Errorf("write who came back: %w", err)
	}
	return nil
}

// Load takes what Save wrote in place of what is there.
func (r *Returns) Load(in io.Reader) error {
	pools := map[string]*pool{}
	if err := json.NewDecoder(in).Decode(&pools); err != nil {
		return fmt.Errorf("read who came back: %w", err)
	}
	if pools == nil {
		pools = map[string]*pool{}
	}
	maps.DeleteFunc(pools, func(_ string, p *pool) bool { return p == nil })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pools = pools
	return nil
}
