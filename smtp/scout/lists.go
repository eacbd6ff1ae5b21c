package scout

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"mailweir/dns"
	"mailweir/smtp"
	"mailweir/smtp/check"
)

// List is a DNS list and where it is asked.
type List struct {
	check.List
	Zone string // may hold a key: it is never shown, logged or recorded
}

// Lists are the DNS lists that are asked, as far as they can be believed
// (R-BX-24). A list must pass its self-test (RFC 5782 section 5) before it is
// asked, and again every ten minutes; one that answers out of 127.0.0.0/8, asks
// us to go away (127.255.255.0/24), or begins to list sources that are known to
// be good, is suspended until it does.
type Lists struct {
	o    ListOptions
	list []*list
}

// ListOptions are what Lists are made with.
type ListOptions struct {
	DNS     *dns.Resolver
	Lists   []List
	Good    func(netip.Addr) bool  // is the source known to be good? nil: nobody is
	Changed func(name, why string) // suspended, or with "" asked again; nil: nobody is told
	Clock   func() time.Time       // nil: time.Now
}

// list is one of them, and whether it is asked.
type list struct {
	List
	mu     sync.Mutex
	tested bool
	why    string    // it is not asked; "": it is
	since  time.Time // of why
	spike  bool      // why is that it lists the good
	window time.Time // when the count of good sources began
	asked  int       // for good sources
	hit    int       // of them
}

// ListStatus is how one list is.
type ListStatus struct {
	Name  string    `json:"name"`
	Why   string    `json:"why,omitempty"` // it is not asked
	Since time.Time `json:"since,omitzero"`
}

const (
	testEvery   = 10 * time.Minute
	spikeWindow = 10 * time.Minute
	spikePause  = time.Hour
	spikeLeast  = 5   // good sources that a list must hit …
	spikeShare  = 0.2 // … and the share of those that it was asked for
)

// NewLists returns Lists that are asked nothing until they passed their tests.
func NewLists(o ListOptions) *Lists {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Changed == nil {
		o.Changed = func(string, string) {}
	}
	if o.Good == nil {
		o.Good = func(netip.Addr) bool { return false }
	}
	l := &Lists{o: o}
	for _, one := range o.Lists {
		l.list = append(l.list, &list{List: one})
	}
	return l
}

// Run tests the lists until ctx ends, and then tells of no list any more.
func (l *Lists) Run(ctx context.Context) {
	tick := time.NewTicker(testEvery)
	defer tick.Stop()
	for {
		l.Test(ctx)
		select {
		case <-ctx.Done():
			for _, one := range l.list {
				l.o.Changed(one.Name, "")
			}
			return
		case <-tick.C:
		}
	}
}

// Status returns how the lists are.
func (l *Lists) Status() (all []ListStatus) {
	for _, one := range l.list {
		one.mu.Lock()
		why := one.why
		if !one.tested && why == "" {
			why = "its self-test is under way"
		}
		all = append(all, ListStatus{one.Name, why, one.since})
		one.mu.Unlock()
	}
	return all
}

// Test has every list pass its self-test, or not.
func (l *Lists) Test(ctx context.Context) {
	var all sync.WaitGroup
	for _, one := range l.list {
		all.Go(func() {
			if why, told := l.test(ctx, one); told {
				l.set(one, why, false)
			}
		})
	}
	all.Wait()
}

// test says what is wrong with a list; told is false when our own resolver is
// sick, so that nothing is known of it.
func (l *Lists) test(ctx context.Context, one *list) (why string, told bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*lookUp)
	defer cancel()
	listed, a := l.o.DNS.Family(ctx, one.always()+"."+one.Zone, netip.IPv4Unspecified(), today)
	if unknown(ctx, a) {
		return "", false
	}
	_, b := l.o.DNS.Family(ctx, one.never()+"."+one.Zone, netip.IPv4Unspecified(), today)
	switch {
	case unknown(ctx, b):
		return "", false
	case a.State == dns.Failed || b.State == dns.Failed:
		return "it does not answer", true
	case mad(listed) != "":
		return mad(listed), true
	case a.State != dns.Found:
		return "its test entry is missing: the zone is wrong, or no list any more", true
	case b.State == dns.Found:
		return listsWorld, true
	}
	return "", true
}

// mad says what is wrong with the answers of a list; "": nothing.
func mad(answers []netip.Addr) string {
	for _, a := range answers {
		switch {
		case !a.IsLoopback():
			return "it answers " + a.String() + ", which no list does: the zone is in other hands"
		case netip.MustParsePrefix("127.255.255.0/24").Contains(a):
			return "it refuses our questions (" + a.String() + "): ask it by a resolver of our own, or with a key"
		}
	}
	return ""
}

// set suspends a list, or has it asked again.
func (l *Lists) set(one *list, why string, spike bool) {
	now := l.o.Clock()
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.spike && why == "" && now.Sub(one.since) < spikePause {
		return // a test says nothing of whom else it lists
	}
	if one.tested = true; one.why == why {
		return
	}
	one.why, one.spike, one.since = why, spike, now
	one.asked, one.hit, one.window = 0, 0, now
	l.o.Changed(one.Name, why)
}

// any says whether there are lists of a kind.
func (l *Lists) any(domains bool) bool {
	return slices.ContainsFunc(l.list, func(one *list) bool { return one.Domain == domains })
}

// peer asks the lists of addresses.
func (l *Lists) peer(ctx context.Context, a netip.Addr) []smtp.Listing {
	return l.ask(ctx, false, reverse(a), "", a)
}

// domain asks the lists of domains for the one that a name belongs to.
func (l *Lists) domain(ctx context.Context, name string) []smtp.Listing {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if org, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		name = org
	}
	return l.ask(ctx, true, name, name, netip.Addr{})
}

// reverse is an address as lists have it: octets, or nibbles, from the last.
func reverse(a netip.Addr) string {
	var b strings.Builder
	raw := a.Unmap().AsSlice()
	for i := len(raw) - 1; i >= 0; i-- {
		if a.Unmap().Is4() {
			fmt.Fprintf(&b, "%d.", raw[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", raw[i]&0xf, raw[i]>>4)
		}
	}
	return strings.TrimSuffix(b.String(), ".")
}

// ask asks all lists of a kind for an entry.
func (l *Lists) ask(ctx context.Context, domains bool, entry, about string, peer netip.Addr) (found []smtp.Listing) {
	var usable []*list
	for _, one := range l.list {
		if one.Domain == domains && one.usable() {
			usable = append(usable, one)
		}
	}
	answers := make([][]smtp.Listing, len(usable))
	var all group
	for i, one := range usable {
		ask := func() { answers[i] = l.askOne(ctx, one, entry, about, peer) }
		if i < len(usable)-1 {
			all.Go(ask)
		} else {
			ask() // the last needs nobody beside it
		}
	}
	all.Wait()
	for _, a := range answers {
		found = append(found, a...)
	}
	return found
}

func (one *list) usable() bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.tested && one.why == ""
}

// askOne asks one list. One that does not answer says nothing.
func (l *Lists) askOne(ctx context.Context, one *list, entry, about string, peer netip.Addr) (found []smtp.Listing) {
	ctx, cancel := context.WithTimeout(ctx, lookUp)
	defer cancel()
	name := entry + "." + one.Zone
	answers, a := l.o.DNS.Family(ctx, name, netip.IPv4Unspecified(), dns.Lists)
	if why := mad(answers); why != "" {
		l.set(one, why, false)
		return nil
	}
	bad := false
	for _, answer := range answers {
		score, _ := one.Score(answer)
		bad = bad || score > 0
		found = append(found, smtp.Listing{Name: one.Name, About: about, Answer: answer.String(), Score: score})
	}
	if peer.IsValid() && a.State != dns.Failed && a.State != dns.Sick && l.o.Good(peer) && l.spikes(one, bad) {
		return nil
	}
	if !bad {
		return found
	}
	if l.listsAll(ctx, one) {
		l.set(one, listsWorld, false)
		return nil
	}
	found[0].Text = l.text(ctx, one, name)
	return found
}

const listsWorld = "it lists the world"

// listsAll asks a list that has somebody for what no list has: one that begins
// to list the world must not refuse anybody until its next test.
func (l *Lists) listsAll(ctx context.Context, one *list) bool {
	_, a := l.o.DNS.Family(ctx, one.never()+"."+one.Zone, netip.IPv4Unspecified(), today)
	return a.State == dns.Found
}

// never is an entry that no list may have (RFC 5782 section 5), always one that
// each must have.
func (one *list) never() string {
	if one.Domain {
		return "INVALID"
	}
	return "1.0.0.127"
}

func (one *list) always() string {
	if one.Domain {
		return "TEST"
	}
	return "2.0.0.127"
}

// today keeps nothing: what a list says of its test entries is of now.
var today = dns.Keep{Fail: time.Second, Most: time.Second, No: time.Second}

// spikes counts what a list says of a good source, and says whether it is
// suspended for it.
func (l *Lists) spikes(one *list, hit bool) bool {
	now := l.o.Clock()
	one.mu.Lock()
	if now.Sub(one.window) > spikeWindow {
		one.asked, one.hit, one.window = 0, 0, now
	}
	if one.asked++; hit {
		one.hit++
	}
	asked, hits := one.asked, one.hit
	one.mu.Unlock()
	if hits < spikeLeast || float64(hits) < spikeShare*float64(asked) {
		return false
	}
	l.set(one, fmt.Sprintf("it lists %d of %d sources that are known to be good", hits, asked), true)
	return true
}

// text is what the list says of an entry, without its zone.
func (l *Lists) text(ctx context.Context, one *list, name string) string {
	texts, _ := l.o.DNS.Text(ctx, name, dns.Lists)
	if len(texts) == 0 {
		return ""
	}
	return scrub(texts[0], one.Zone, one.Name)
}

// scrub takes a zone, and each part of it that may be a key, out of a text.
func scrub(text, zone, name string) string {
	lower := lowerASCII(text)
	for _, secret := range append([]string{zone}, strings.Split(zone, ".")...) {
		if len(secret) < 12 && secret != zone {
			continue // no key: a word such as "zen"
		}
		for secret = lowerASCII(secret); ; {
			i := strings.Index(lower, secret)
			if i < 0 {
				break
			}
			text = text[:i] + name + text[i+len(secret):]
			lower = lowerASCII(text)
			if strings.Contains(lowerASCII(name), secret) {
				break
			}
		}
	}
	return text
}

// lowerASCII has every octet in its place: strings.ToLower makes three of one
// that is no UTF-8.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
