// Package feed keeps lists of prefixes that others publish, such as Spamhaus DROP:
// fetched from a URL, or read from a file, again and again.
//
//	file or URL ─► whole? ─► a list? ─► believable? ─► the set in force, and last good on disk
//
// Whatever is wrong with a fetch, the last good set stays in force, also after a
// restart. A list that suddenly is empty, has twice what it had, or would hit a
// good part of the internet is not believed; what of it touches an address that
// must not be hit is left out. An alarm stands for as long as any of this does.
package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailweir/disk"
	"mailweir/prefix"
)

// Options are what a Feed is made with.
type Options struct {
	Name       string
	Source     string        // an absolute path, or an http or https URL
	Refresh    time.Duration // how often it is looked at
	MaxEntries int
	File       string // where the last good set is kept
	Client     *http.Client
	// Spared is who must not be hit, and as what.
	Spared func() map[netip.Prefix]string
	// Changed is told of each new set, the last good one at the start among them.
	Changed func(*prefix.Set)
	// Alarm is told what is wrong, and with "" that nothing is.
	Alarm func(what string)
	Clock func() time.Time
	Log   *slog.Logger
}

// Feed is one list.
type Feed struct {
	o Options

	fetching sync.Mutex // one at a time
	using    sync.Mutex // what is kept, putting it in force

	mu   sync.Mutex
	kept kept
	set  *prefix.Set
	why  string    // the last fetch came to nothing
	odd  string    // what of the list is not in force, though the fetch was well
	last time.Time // of the last fetch, well or not
}

// kept is what is on disk.
type kept struct {
	Source   string         `json:"source"`
	Most     int            `json:"most"`    // entries that it could have then
	Fetched  time.Time      `json:"fetched"` // when it was last known to be current
	ETag     string         `json:"etag,omitempty"`
	Modified string         `json:"modified,omitempty"`
	Prefixes []netip.Prefix `json:"prefixes"`
}

const (
	// stale is after how many intervals without a good fetch it is said: a list
	// changes slowly, and one that is missed once is no matter.
	stale = 3
	// widest is what no list of attackers has (Spamhaus DROP has a third of a per
	// cent): the share of all addresses that is not believed.
	widest = 1.0 / 32
	// grows is by how much a list of some length may grow from one fetch to the
	// next, and shrink the other way round.
	grows = 2.0
	some  = 50
)

// Open returns the feed with its last good set in force.
func Open(o Options) *Feed {
	f := &Feed{o: o}
	err := disk.Restore(o.File, func(r io.Reader) error { return json.NewDecoder(r).Decode(&f.kept) })
	if err != nil {
		f.why = fmt.Sprintf("what was kept of it is lost: %v", err)
	}
	if err != nil || f.kept.Source != o.Source {
		f.kept = kept{}
	}
	if f.kept.Most != o.MaxEntries { // what was refused may be taken now
		f.kept.ETag, f.kept.Modified = "", ""
	}
	f.use()
	return f
}

// use puts what is kept in force, but for who must not be hit.
func (f *Feed) use() {
	f.using.Lock()
	defer f.using.Unlock()
	f.mu.Lock()
	all := prefix.New(f.kept.Prefixes)
	f.mu.Unlock()
	var out []netip.Prefix
	var told []string
	for p, as := range f.o.Spared() {
		for _, hit := range all.Overlapping(p) {
			out = append(out, hit)
			told = append(told, fmt.Sprintf("%v, which has %v (%s)", hit, p, as))
		}
	}
	set := all.Without(out)
	slices.Sort(told)
	f.mu.Lock()
	f.set, f.odd = set, ""
	if told != nil {
		f.odd = "left out of it: " + clip(told)
	}
	f.mu.Unlock()
	f.o.Changed(set)
}

// clip joins the first few of a list.
func clip(list []string) string {
	const most = 5
	if len(list) > most {
		return strings.Join(list[:most], "; ") + fmt.Sprintf("; and %d more", len(list)-most)
	}
	return strings.Join(list, "; ")
}

// Again leaves out anew who must not be hit: that may be others now. It waits for
// no fetch.
func (f *Feed) Again() {
	f.use()
	f.tell()
}

// Run fetches until ctx ends, and then tells of no alarm any more.
func (f *Feed) Run(ctx context.Context) {
	defer f.o.Alarm("")
	f.tell()
	next := time.NewTimer(f.first())
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if err := f.Fetch(ctx, false); err != nil && ctx.Err() == nil {
			f.o.Log.Warn("feed", "name", f.o.Name, "error", err)
		}
		next.Reset(f.wait())
	}
}

// first is when a fetch is due after the start: at once where there is nothing or
// nobody else is asked, else when it would have been. What a clock that was ahead
// wrote down puts it off no longer than that.
func (f *Feed) first() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept.Fetched.IsZero() || f.kept.Most != f.o.MaxEntries || isFile(f.o.Source) {
		return rand.N(2 * time.Second)
	}
	since := max(0, f.o.Clock().Sub(f.kept.Fetched))
	return max(rand.N(time.Minute), jitter(f.o.Refresh)-since)
}

// wait is how long until the next fetch: sooner after one that came to nothing.
func (f *Feed) wait() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.why != "" {
		return jitter(f.o.Refresh / 4)
	}
	return jitter(f.o.Refresh)
}

// jitter is up to a tenth more or less: all who restart together must not ask
// together for ever.
func jitter(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

// Fetch looks at the source now. accept takes a list that is another than is
// believed by itself.
func (f *Feed) Fetch(ctx context.Context, accept bool) error {
	f.fetching.Lock()
	defer f.fetching.Unlock()
	f.mu.Lock()
	before := f.kept
	f.mu.Unlock()
	got, err := f.get(ctx, before, accept)
	if err == nil && !got.same {
		err = f.believe(before, got, accept)
	}
	now := f.o.Clock()
	f.mu.Lock()
	if f.last, f.why = now, ""; err != nil {
		f.why = err.Error()
	}
	f.mu.Unlock()
	defer f.tell()
	if err != nil {
		return err
	}
	next := before
	if !got.same {
		next = kept{Source: f.o.Source, ETag: got.etag, Modified: got.modified, Prefixes: got.set.List()}
	}
	next.Fetched, next.Most = now, f.o.MaxEntries
	f.mu.Lock()
	f.kept = next
	f.mu.Unlock()
	f.use()
	return disk.Replace(f.o.File, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(next) })
}

// believe says why a list that is one is not taken.
func (f *Feed) believe(before kept, got got, accept bool) error {
	n, was, share := got.set.Len(), len(before.Prefixes), got.set.Share()
	switch {
	case share > widest:
		return fmt.Errorf("it has %.0f %% of all addresses, which is no list of attackers", 100*share)
	case accept:
		return nil
	case n == 0:
		return fmt.Errorf("it is empty")
	case was >= some && float64(n) > grows*float64(was), was >= some && float64(n) < float64(was)/grows:
		return fmt.Errorf("it has %d entries and had %d: look at it, then take it by `weir lists fetch %s --accept`", n, was, f.o.Name)
	case was > 0 && share > grows*prefix.New(before.Prefixes).Share() && share > widest/32:
		return fmt.Errorf("it has twice the addresses that it had: look at it, then take it by `weir lists fetch %s --accept`", f.o.Name)
	}
	return nil
}

// tell raises the alarm or ends it.
func (f *Feed) tell() {
	s := f.Status()
	switch {
	case s.Stale:
		f.o.Alarm(fmt.Sprintf("feed.%s is stale, of %s: %s", f.o.Name, s.told(), s.Why))
	case s.Why != "" && s.unbelieved():
		f.o.Alarm(fmt.Sprintf("feed.%s is not taken, the one of %s stands: %s", f.o.Name, s.told(), s.Why))
	case s.Odd != "":
		f.o.Alarm(fmt.Sprintf("feed.%s has addresses that must not be hit; %s", f.o.Name, s.Odd))
	default:
		f.o.Alarm("")
	}
}

// Status is how a feed is.
type Status struct {
	Name    string    `json:"name"`
	Source  string    `json:"source"`
	Entries int       `json:"entries"` // in force
	Fetched time.Time `json:"fetched,omitzero"`
	Tried   time.Time `json:"tried,omitzero"`
	Why     string    `json:"why,omitempty"` // the last fetch came to nothing
	Odd     string    `json:"odd,omitempty"` // what is left out
	Stale   bool      `json:"stale,omitempty"`
	Every   string    `json:"every"` // it is looked at
}

// unbelieved says that what went wrong is no matter of the network, which mends
// itself.
func (s *Status) unbelieved() bool { return !strings.HasPrefix(s.Why, unreachable) }

func (s *Status) told() string {
	if s.Fetched.IsZero() {
		return "never"
	}
	return s.Fetched.UTC().Format(time.DateTime)
}

// Status returns how the feed is.
func (f *Feed) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Name: f.o.Name, Source: f.o.Source, Entries: f.set.Len(), Fetched: f.kept.Fetched, Tried: f.last, Why: f.why, Odd: f.odd, Every: f.o.Refresh.String()}
	s.Stale = f.why != "" && f.o.Clock().Sub(f.kept.Fetched) > stale*f.o.Refresh
	return s
}

// Set is the set in force.
func (f *Feed) Set() *prefix.Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}
