package dns_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"mailweir/dns"
)

func resolver(t *testing.T, c *clock, servers ...*liar) (*dns.Resolver, *[]string) {
	t.Helper()
	told := &[]string{}
	o := dns.Options{Timeout: 4 * time.Second, Clock: c.Now, Changed: func(why string) { *told = append(*told, why) }}
	for _, s := range servers {
		o.Servers = append(o.Servers, s.at)
	}
	return dns.New(o), told
}

func (l *liar) expect(t *testing.T, r *dns.Resolver, name string, want dns.State) dns.Answer {
	t.Helper()
	a := r.Ask(t.Context(), name, miekg.TypeA, dns.Names)
	if a.State != want {
		t.Errorf("%s is %v (%v), want %v", name, a.State, a.Err, want)
	}
	return a
}

// R-CX-03: a no, a failure and a sick resolver are three things.
func TestStates(t *testing.T) {
	l := newLiar(t, "mail.sender.example. 7200 A 192.0.2.7", "sender.example. 7200 MX 10 mail.sender.example.")
	r, told := resolver(t, newClock(), l)
	l.expect(t, r, "mail.sender.example", dns.Found)
	l.expect(t, r, "sender.example", dns.NoData)
	l.expect(t, r, "gone.example", dns.NoName)
	l.expect(t, r, "not..a.name", dns.NoName)
	l.be("servfail", "canaries")
	l.expect(t, r, "broken.example", dns.Failed)
	l.be("refused", "canaries")
	l.expect(t, r, "broken2.example", dns.Failed)
	l.be("lame", "canaries")
	l.expect(t, r, "lame.example", dns.Failed)
	l.be("other", "canaries")
	l.expect(t, r, "spoofed.example", dns.Failed)
	if len(*told) != 0 || r.Sick() != "" {
		t.Errorf("a broken zone made the resolver sick: %q", *told)
	}
}

// A name with what zone files escape comes back escaped: SPF records may make
// one of a sender (RFC 7208 section 7.2).
func TestOddNames(t *testing.T) {
	l := newLiar(t, `o\'brien.sender.example. 7200 A 192.0.2.7`, `two\ words.sender.example. 60 A 192.0.2.8`)
	r, _ := resolver(t, newClock(), l)
	l.expect(t, r, "o'brien.sender.example", dns.Found)
	l.expect(t, r, "Two Words.sender.example", dns.Found)
	l.expect(t, r, "o'hara.sender.example", dns.NoName)
}

func TestSickResolverKnowsNothing(t *testing.T) {
	for _, mood := range []string{"silent", "servfail", "refused", "nxdomain", "wild"} {
		t.Run(mood, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			l := newLiar(t, "a.example. 60 A 192.0.2.7", "b.example. 60 A 192.0.2.8")
			r, told := resolver(t, c, l)
			l.be(mood, "")
			l.expect(t, r, "a.example", dns.Sick)
			if r.Sick() == "" || len(*told) != 1 || (*told)[0] == "" || r.Status().Servers[0].Why == "" {
				t.Errorf("nobody is told: %q, %+v", *told, r.Status())
			}
			l.be("", "")
			c.add(6 * time.Second)
			l.expect(t, r, "b.example", dns.Found)
			l.expect(t, r, "a.example", dns.Found) // nothing that it said was kept
			if len(*told) != 2 || (*told)[1] != "" {
				t.Errorf("nobody is told that all is well: %q", *told)
			}
		})
	}
}

// A resolver that turns liar is found out before anything it says is used.
func TestNoAnswerOutlivesItsCanaries(t *testing.T) {
	c := newClock()
	l := newLiar(t, "a.example. 60 A 192.0.2.7")
	r, _ := resolver(t, c, l)
	l.expect(t, r, "a.example", dns.Found)
	l.be("nxdomain", "")
	c.add(6 * time.Second)
	l.expect(t, r, "b.example", dns.Sick)
	l.expect(t, r, "a.example", dns.Found) // learnt while it was well
}

func TestFailover(t *testing.T) {
	for _, mood := range []string{"silent", "servfail", "refused", "nxdomain", "wild"} {
		t.Run(mood, func(t *testing.T) {
			t.Parallel()
			bad, good := newLiar(t), newLiar(t, "a.example. 60 A 192.0.2.7")
			r, told := resolver(t, newClock(), bad, good)
			bad.be(mood, "")
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // what the gate gives
			defer cancel()
			if a := r.Ask(ctx, "a.example", miekg.TypeA, dns.Names); a.State != dns.Found {
				t.Errorf("the second server is not asked in time: %v (%v)", a.State, a.Err)
			}
			if len(*told) != 0 {
				t.Errorf("one sick server of two is no alarm for all: %q", *told)
			}
		})
	}
}

func TestCutAnswersComeOverTCP(t *testing.T) {
	l := newLiar(t, "a.example. 60 A 192.0.2.7")
	r, _ := resolver(t, newClock(), l)
	l.be("cut", "canaries")
	l.expect(t, r, "a.example", dns.Found)
	if n := l.count("a.example.", "A"); n != 2 {
		t.Errorf("asked %d times, want UDP and TCP", n)
	}
}

func TestAnswersAreKeptWithinBounds(t *testing.T) {
	for _, c := range []struct {
		name   string
		record string
		keep   dns.Keep
		still  time.Duration
		gone   time.Duration
	}{
		{"least", "x.example. 5 A 192.0.2.7", dns.Names, 59 * time.Minute, 61 * time.Minute},
		{"by its TTL", "x.example. 7200 A 192.0.2.7", dns.Names, 119 * time.Minute, 121 * time.Minute},
		{"most", "x.example. 864000 A 192.0.2.7", dns.Names, 23 * time.Hour, 25 * time.Hour},
		{"list", "x.example. 0 A 127.0.0.2", dns.Lists, 59 * time.Second, 61 * time.Second},
		{"no, by the zone's", "y.example. 60 A 192.0.2.7", dns.Names, 4 * time.Minute, 6 * time.Minute},
		{"no, most", "y.example. 60 A 192.0.2.7", dns.Keep{No: 2 * time.Minute}, 110 * time.Second, 130 * time.Second},
	} {
		clock := newClock()
		l := newLiar(t, c.record)
		r, _ := resolver(t, clock, l)
		ask := func(want int) {
			t.Helper()
			r.Ask(t.Context(), "X.example", miekg.TypeA, c.keep)
			if n := l.count("x.example.", "A"); n != want {
				t.Errorf("%s: asked %d times, want %d", c.name, n, want)
			}
		}
		ask(1)
		clock.add(c.still)
		ask(1)
		clock.add(c.gone - c.still)
		ask(2)
	}
}

func TestFailuresAreKeptShortly(t *testing.T) {
	c := newClock()
	l := newLiar(t)
	r, _ := resolver(t, c, l)
	l.be("servfail", "canaries")
	l.expect(t, r, "x.example", dns.Failed)
	n := l.count("x.example.", "A")
	c.add(59 * time.Second)
	l.expect(t, r, "x.example", dns.Failed)
	if l.count("x.example.", "A") != n {
		t.Error("a failure is not kept for a minute")
	}
	c.add(2 * time.Second)
	l.be("", "")
	l.expect(t, r, "x.example", dns.NoName)
}

func TestQuestionsUnderWayAreMerged(t *testing.T) {
	l := newLiar(t, "a.example. 60 A 192.0.2.7")
	r, _ := resolver(t, newClock(), l)
	r.Probe()
	hold := make(chan struct{})
	l.mu.Lock()
	l.hold, l.spare = hold, "canaries"
	l.mu.Unlock()
	const askers = 50
	var all sync.WaitGroup
	states := make(chan dns.State, askers)
	started := make(chan struct{}, askers)
	for range askers {
		all.Go(func() {
			started <- struct{}{}
			states <- r.Ask(t.Context(), "a.example", miekg.TypeA, dns.Names).State
		})
	}
	for range askers {
		<-started
	}
	close(hold)
	all.Wait()
	close(states)
	for s := range states {
		if s != dns.Found {
			t.Errorf("an asker heard %v", s)
		}
	}
	if n := l.count("a.example.", "A"); n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestRecords(t *testing.T) {
	l := newLiar(t,
		"7.2.0.192.in-addr.arpa. 60 PTR mail.sender.example.",
		"mail.sender.example. 60 A 192.0.2.7", "mail.sender.example. 60 AAAA 2001:db8::7",
		"sender.example. 60 MX 10 mail.sender.example.", "null.example. 60 MX 0 .",
		`sender.example. 60 TXT "v=spf1 " "-all \"x\""`,
	)
	r, _ := resolver(t, newClock(), l)
	ctx := t.Context()
	if names, a := r.Reverse(ctx, netip.MustParseAddr("::ffff:192.0.2.7"), dns.Names); a.State != dns.Found || !slices.Equal(names, []string{"mail.sender.example"}) {
		t.Errorf("reverse: %q, %v", names, a.State)
	}
	if addrs, a := r.Addrs(ctx, "mail.sender.example", dns.HELO); a.State != dns.Found || fmt.Sprint(addrs) != "[192.0.2.7 2001:db8::7]" {
		t.Errorf("addresses: %v, %v", addrs, a.State)
	}
	if _, a := r.Addrs(ctx, "gone.example", dns.HELO); a.State != dns.NoName {
		t.Errorf("addresses of nobody: %v", a.State)
	}
	if mx, a := r.Exchangers(ctx, "null.example", dns.Domain); a.State != dns.Found || len(mx) != 1 || mx[0].Host != "" {
		t.Errorf("null MX: %v, %v", mx, a.State)
	}
	if txt, a := r.Text(ctx, "sender.example", dns.Policy); a.State != dns.Found || !slices.Equal(txt, []string{`v=spf1 -all "x"`}) {
		t.Errorf("text: %q, %v", txt, a.State)
	}
}

func TestNoServerIsSick(t *testing.T) {
	r := dns.New(dns.Options{File: t.TempDir() + "/resolv.conf"})
	if a := r.Ask(t.Context(), "a.example", miekg.TypeA, dns.Names); a.State != dns.Sick {
		t.Errorf("without a server the answer is %v", a.State)
	}
	r.Probe()
	if r.Sick() == "" {
		t.Error("nobody is told that there is no server")
	}
}

// R-CX-03: somebody is refused for a definite no, so that it needs canaries of
// just now.
func TestANoNeedsFreshCanaries(t *testing.T) {
	c := newClock()
	l := newLiar(t, "a.example. 60 A 192.0.2.7")
	r, _ := resolver(t, c, l)
	l.expect(t, r, "a.example", dns.Found)
	l.be("nxdomain", "")
	c.add(2 * time.Second)
	l.expect(t, r, "b.example", dns.Sick)
}

// Nor is what is found believed of one that began to lie: a name that resolves
// elsewhere is held against somebody, and a wrong address against a list.
func TestWhatIsFoundNeedsFreshCanaries(t *testing.T) {
	c := newClock()
	l := newLiar(t, "a.example. 60 A 192.0.2.7")
	r, _ := resolver(t, c, l)
	l.expect(t, r, "a.example", dns.Found)
	l.be("wild", "")
	c.add(time.Second)
	l.expect(t, r, "b.example", dns.Sick)
}

// While nothing is known of anybody, nobody waits for that.
func TestWhoIsIllIsNotAsked(t *testing.T) {
	c := newClock()
	l := newLiar(t, "a.example. 60 A 192.0.2.7")
	r, _ := resolver(t, c, l)
	l.be("silent", "")
	r.Probe()
	l.expect(t, r, "a.example", dns.Sick)
	if n := l.count("a.example.", "A"); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
	l.be("", "")
	c.add(6 * time.Second)
	l.expect(t, r, "a.example", dns.Found)
}

// Nobody is put off either, by a resolver that broke down just now.
func TestAFailureNeedsFreshCanaries(t *testing.T) {
	for _, mood := range []string{"servfail", "refused", "lame", "silent"} {
		t.Run(mood, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			l := newLiar(t, "a.example. 60 A 192.0.2.7")
			r, _ := resolver(t, c, l)
			l.expect(t, r, "a.example", dns.Found)
			l.be(mood, "")
			c.add(2 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // what the gate gives
			defer cancel()
			if a := r.Ask(ctx, "b.example", miekg.TypeA, dns.Names); a.State != dns.Sick {
				t.Errorf("it is %v (%v)", a.State, a.Err)
			}
		})
	}
}

// R-CX-03: a resolver that lost its way out has the root in its cache still.
func TestAWayOutIsInNoCache(t *testing.T) {
	for _, mood := range []string{"servfail", "refused", "silent"} {
		t.Run(mood, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			l := newLiar(t, "a.example. 60 A 192.0.2.7", "c.example. 60 A 192.0.2.7")
			r, told := resolver(t, c, l)
			l.expect(t, r, "a.example", dns.Found)
			l.be(mood, "kept")
			c.add(2 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // what the gate gives
			defer cancel()
			if a := r.Ask(ctx, "b.example", miekg.TypeA, dns.Names); a.State != dns.Sick {
				t.Errorf("it is %v (%v)", a.State, a.Err)
			}
			c.add(6 * time.Second)
			l.expect(t, r, "b.example", dns.Sick) // what of it is in a cache makes it well for nobody
			if r.Sick() == "" || len(*told) != 1 {
				t.Errorf("nobody is told, or too often: %q", *told)
			}
			l.be("", "")
			c.add(6 * time.Second)
			l.expect(t, r, "c.example", dns.Found)
			if r.Sick() != "" || len(*told) != 2 {
				t.Errorf("nobody is told that all is well: %q", *told)
			}
		})
	}
}

// Whoever has no time left is put off for a name that is slow, and not for a
// resolver that is.
func TestTooLate(t *testing.T) {
	for spare, want := range map[string]dns.State{"canaries": dns.Failed, "kept": dns.Sick, "": dns.Sick} {
		t.Run("but for "+spare, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			l := newLiar(t, "a.example. 60 A 192.0.2.7")
			r, _ := resolver(t, c, l)
			l.expect(t, r, "a.example", dns.Found)
			l.be("silent", spare)
			c.add(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // the end of what the gate gives
			defer cancel()
			if a := r.Ask(ctx, "b.example", miekg.TypeA, dns.Names); a.State != want {
				t.Errorf("it is %v (%v), want %v", a.State, a.Err, want)
			}
		})
	}
}

// What fails costs the servers of the root four questions a second at the most,
// and none where it failed before.
func TestAWayOutIsAskedForSeldom(t *testing.T) {
	t.Parallel()
	var late atomic.Int64
	l := newLiar(t)
	l.be("servfail", "canaries")
	r := dns.New(dns.Options{Servers: []netip.AddrPort{l.at}, Timeout: 4 * time.Second, Clock: func() time.Time {
		return time.Now().Add(time.Duration(late.Load()))
	}})
	begun := time.Now()
	ask := func(round string) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range 5 {
					l.expect(t, r, fmt.Sprintf("n%d-%d.example", i, n), dns.Failed)
					late.Add(int64(time.Second)) // no canary is fresh any more
				}
			})
		}
		all.Wait()
		if n, most := l.wayOut(), 2+int(time.Since(begun)/(250*time.Millisecond)); n == 0 || n > most {
			t.Errorf("%s: a way out was asked for %d times in %v", round, n, time.Since(begun))
		}
	}
	ask("new names")
	before := l.wayOut()
	late.Add(int64(2 * time.Minute))
	ask("the same names later")
	if n := l.wayOut() - before; n != 0 {
		t.Errorf("the same names cost %d questions more", n)
	}
}
