package scout_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"mailweir/dns"
	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/scout"
)

var peer = netip.MustParseAddr("198.51.100.7")

// world is a name server on loopback, a resolver that asks it, and its lists.
type world struct {
	mu    sync.Mutex
	zone  map[string][]miekg.RR
	fails string          // names with this end fail, all when "."
	mute  map[string]bool // names fail where no record is
	sick  bool            // the canaries fail too
	lame  bool            // no SOA with what is empty
	dns   *dns.Resolver
	lists *scout.Lists
	now   time.Time
	told  []string
	good  map[netip.Addr]bool

	faulty bool // to ask whether somebody is good panics
}

func (w *world) isGood(a netip.Addr) bool {
	if w.faulty {
		panic("a fault")
	}
	return w.good[a]
}

func newWorld(t testing.TB, records ...string) *world {
	t.Helper()
	w := &world{now: time.Unix(1_800_000_000, 0), good: map[netip.Addr]bool{}, zone: map[string][]miekg.RR{}}
	w.add(t, records...)
	w.add(t, ". 60 SOA ns. host. 1 60 60 60 60",
		"2.0.0.127.key1234567890ab.bl.example. 60 A 127.0.0.2", "TEST.dbl.example. 60 A 127.0.1.2")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan struct{})
	s := &miekg.Server{PacketConn: pc, Handler: w, NotifyStartedFunc: func() { close(ready) }}
	go func() { defer close(done); s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() { s.Shutdown(); <-done })
	clock := func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }
	w.dns = dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(pc.LocalAddr().String())}, Clock: clock})
	w.lists = scout.NewLists(scout.ListOptions{
		DNS: w.dns, Clock: clock, Good: w.isGood,
		Changed: func(name, why string) { w.mu.Lock(); defer w.mu.Unlock(); w.told = append(w.told, name+": "+why) },
		Lists: []scout.List{
			{Zone: "key1234567890ab.bl.example", List: check.List{Name: "bl", Scores: []check.Range{{Low: [4]byte{127, 0, 0, 2}, High: [4]byte{127, 0, 0, 9}, Score: 8}}}},
			{Zone: "dbl.example", List: check.List{Name: "dbl", Domain: true, Scores: []check.Range{{Low: [4]byte{127, 0, 1, 2}, High: [4]byte{127, 0, 1, 2}, Score: 8}}}},
		},
	})
	return w
}

func (w *world) add(t testing.TB, records ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range records {
		rr, err := miekg.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		key := strings.ToLower(rr.Header().Name) + miekg.TypeToString[rr.Header().Rrtype]
		w.zone[key] = append(w.zone[key], rr)
	}
}

func (w *world) later(d time.Duration) { w.mu.Lock(); w.now = w.now.Add(d); w.mu.Unlock() }

func (w *world) fail(names string, sick bool) {
	w.mu.Lock()
	w.fails, w.sick = names, sick
	w.mu.Unlock()
}

func (w *world) ServeDNS(rw miekg.ResponseWriter, q *miekg.Msg) {
	name := strings.ToLower(q.Question[0].Name)
	canary := name == "." || strings.HasPrefix(name, "canary-")
	a := new(miekg.Msg).SetReply(q)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, rr := range w.zone[name+"CNAME"] {
		a.Answer = append(a.Answer, rr)
		name = strings.ToLower(rr.(*miekg.CNAME).Target)
	}
	a.Answer = append(a.Answer, w.zone[name+miekg.TypeToString[q.Question[0].Qtype]]...)
	switch {
	case w.sick && canary, !canary && w.fails != "" && strings.HasSuffix(name, w.fails), len(a.Answer) == 0 && w.mute[name]:
		a.Answer, a.Rcode = nil, miekg.RcodeServerFailure
	case len(a.Answer) == 0:
		a.Rcode = miekg.RcodeNameError
		for key := range w.zone {
			if strings.HasPrefix(key, name) || strings.Contains(key, "."+name) {
				a.Rcode = miekg.RcodeSuccess
			}
		}
		if !w.lame {
			soa, _ := miekg.NewRR("example. 60 SOA ns. host. 1 60 60 60 60")
			a.Ns = append(a.Ns, soa)
		}
	}
	rw.WriteMsg(a)
}

func (w *world) scout() *scout.Scout {
	return scout.New(scout.Options{DNS: w.dns, Lists: w.lists, Clock: func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }, Classify: func(name string, _ netip.Addr) (string, string) { return "custom", name }})
}

// R-BW-13, R-CX-03.
func TestReverseNames(t *testing.T) {
	ptr := "7.100.51.198.in-addr.arpa. 60 PTR "
	for _, c := range []struct {
		name    string
		records []string
		fails   string
		sick    bool
		want    string
	}{
		{"confirmed", []string{ptr + "a.example.", ptr + "mail.example.", "mail.example. 60 A 198.51.100.7"}, "", false, "confirmed mail.example"},
		{"mismatch", []string{ptr + "mail.example.", "mail.example. 60 A 198.51.100.8"}, "", false, "mismatch mail.example"},
		{"does not resolve", []string{ptr + "mail.example."}, "", false, "mismatch mail.example"},
		{"missing", nil, "", false, "missing "},
		{"failure", nil, "in-addr.arpa.", false, "error "},
		{"failure of the name", []string{ptr + "mail.example."}, "mail.example.", false, "error mail.example"},
		{"sick", nil, ".", true, ""},
	} {
		w := newWorld(t, c.records...)
		w.fail(c.fails, c.sick)
		r, _ := w.scout().Peer(t.Context(), peer)
		got := ""
		if r != nil {
			got = fmt.Sprintf("%s %s", r.State, r.Name)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// R-BW-08, R-BX-24: a list counts while it can be believed, and its key is told
// to nobody.
func TestListsAreBelievedWhileTheyPass(t *testing.T) {
	w := newWorld(t, "7.100.51.198.key1234567890ab.bl.example. 60 A 127.0.0.4",
		"7.100.51.198.key1234567890ab.bl.example. 60 TXT \"see key1234567890ab.bl.example\"", "bad.example.dbl.example. 60 A 127.0.1.2")
	s := w.scout()
	asked := func() []smtp.Listing { _, l := s.Peer(t.Context(), peer); return l }
	if l := asked(); len(l) != 0 {
		t.Errorf("a list is asked before its test: %+v", l)
	}
	w.lists.Test(t.Context())
	if l := asked(); len(l) != 1 || l[0].Name != "bl" || l[0].Answer != "127.0.0.4" || l[0].Score != 8 || strings.Contains(l[0].Text, "key1234567890ab") || l[0].Text == "" {
		t.Errorf("listed: %+v", l)
	}
	if _, l := s.HELO(t.Context(), peer, "www.bad.example"); len(l) != 1 || l[0].About != "bad.example" {
		t.Errorf("domain: %+v", l)
	}
	w.fail("bl.example.", false) // it does not answer
	w.later(11 * time.Minute)
	w.lists.Test(t.Context())
	w.fail("", false)
	if l := asked(); len(l) != 0 || len(w.told) == 0 || !strings.Contains(w.told[0], "does not answer") {
		t.Errorf("a list that fails its test: %+v, %q", l, w.told)
	}
	w.later(11 * time.Minute)
	w.lists.Test(t.Context())
	if l := asked(); len(l) != 1 {
		t.Errorf("a list that passes again is not asked: %q", w.told)
	}
	w.add(t, "1.0.0.127.key1234567890ab.bl.example. 60 A 127.0.0.2")
	w.later(11 * time.Minute)
	w.lists.Test(t.Context())
	if l := asked(); len(l) != 0 || !strings.Contains(w.told[len(w.told)-1], "lists the world") {
		t.Errorf("a list that lists the world: %+v, %q", l, w.told)
	}
}

// What a list says may be in any encoding: the key is taken out of it all the
// same, and its octets move nothing.
func TestWordsOfListsKeepNoKey(t *testing.T) {
	for _, said := range []string{
		`\233t\233 KEY1234567890ab.bl.example, \233t\233 key1234567890AB`, `\226\132\170\226\132\170 see key1234567890ab.bl.example`,
		`\200\186\200\186\200\186\200\186 key1234567890ab.bl.example`, `key1234567890abkey1234567890ab`,
	} {
		w := newWorld(t, "7.100.51.198.key1234567890ab.bl.example. 60 A 127.0.0.4", `7.100.51.198.key1234567890ab.bl.example. 60 TXT "`+said+`"`)
		w.lists.Test(t.Context())
		_, l := w.scout().Peer(t.Context(), peer)
		if len(l) != 1 || !strings.Contains(l[0].Text, "bl") || strings.Contains(strings.ToLower(l[0].Text), "key") {
			t.Errorf("%s: %+v", said, l)
		}
	}
}

// A fault of ours in a look-up is one of its session, which answers 451, and not
// the end of the mail role (R-BW-E10).
func TestFaultsStayWithTheirSession(t *testing.T) {
	w := newWorld(t, "7.100.51.198.key1234567890ab.bl.example. 60 A 127.0.0.4")
	w.lists.Test(t.Context())
	s := w.scout()
	w.faulty = true
	defer func() {
		if p := recover(); p != "a fault" {
			t.Errorf("the session hears of %v", p)
		}
	}()
	s.Peer(t.Context(), peer)
	t.Error("nobody hears of a fault")
}

func TestMadAnswersSuspend(t *testing.T) {
	for answer, why := range map[string]string{"127.255.255.254": "refuses our questions", "192.0.2.66": "in other hands"} {
		w := newWorld(t, "7.100.51.198.key1234567890ab.bl.example. 60 A "+answer)
		w.lists.Test(t.Context())
		if _, l := w.scout().Peer(t.Context(), peer); len(l) != 0 || len(w.told) != 1 || !strings.Contains(w.told[0], why) || strings.Contains(w.told[0], "key123") {
			t.Errorf("%s: %+v, %q", answer, l, w.told)
		}
	}
}

func TestAListThatHitsTheGoodIsSuspended(t *testing.T) {
	w := newWorld(t)
	w.lists.Test(t.Context())
	hits := 0
	for i := range 8 {
		a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		w.good[a] = true
		w.add(t, fmt.Sprintf("%d.113.0.203.key1234567890ab.bl.example. 60 A 127.0.0.2", i))
		_, l := w.scout().Peer(t.Context(), a)
		hits += len(l)
	}
	if hits != 4 || len(w.told) != 1 || !strings.Contains(w.told[0], "5 of 5") {
		t.Errorf("%d good sources were hit: %q", hits, w.told)
	}
	w.lists.Test(t.Context())
	if len(w.told) != 1 {
		t.Error("a self-test says nothing of whom else it lists")
	}
}

// RFC 7208 as far as it matters, and R-BW-E19, by our own resolver.
func TestSender(t *testing.T) {
	chain := []string{"loop.example. 60 MX 0 .", `ten.example. 60 TXT "v=spf1 include:i0.example -all"`}
	for i := range 12 {
		chain = append(chain, fmt.Sprintf(`i%d.example. 60 TXT "v=spf1 include:i%d.example -all"`, i, i+1))
	}
	w := newWorld(t, append(chain,
		`pass.example. 60 TXT "v=spf1 ip4:198.51.100.7 -all"`, "pass.example. 60 MX 10 mx.pass.example.",
		`slash16.example. 60 TXT "v=spf1 ip4:198.51.0.0/16 -all"`, `slash15.example. 60 TXT "v=spf1 ip4:198.50.0.0/15 -all"`,
		`all.example. 60 TXT "v=spf1 +all"`, `anybody.example. 60 TXT "v=spf1 exists:yes.example -all"`, "yes.example. 60 A 127.0.0.2",
		`fail.example. 60 TXT "v=spf1 -all"`, "fail.example. 60 A 192.0.2.1",
		`soft.example. 60 TXT "v=spf1 ~all"`,
		`redirect.example. 60 TXT "v=spf1 redirect=pass.example"`,
		`lost.example. 60 TXT "v=spf1 include:nowhere.example -all"`,
		`void.example. 60 TXT "v=spf1 a:v1.example a:v2.example a:v3.example ip4:198.51.100.7 -all"`,
		`macro.example. 60 TXT "v=spf1 exists:%{ir}.%{v}._spf.macro.example -all"`, "7.100.51.198.in-addr._spf.macro.example. 60 A 127.0.0.2",
		`tempinc.example. 60 TXT "v=spf1 include:broken.example -all"`,
	)...)
	w.fail("broken.example.", false)
	for _, c := range []struct {
		from   string
		domain smtp.SenderDomain
		spf    string
	}{
		{"a@pass.example", smtp.SenderOK, "pass"}, {"a@fail.example", smtp.SenderNoMXYet, "fail"},
		{"a@soft.example", smtp.SenderNXDomain, "softfail"}, {"a@redirect.example", smtp.SenderNXDomain, "pass"},
		{"a@lost.example", smtp.SenderNXDomain, "permerror"}, {"a@ten.example", smtp.SenderNXDomain, "permerror"},
		{"a@void.example", smtp.SenderNXDomain, "permerror"}, {"a@macro.example", smtp.SenderNXDomain, "pass"},
		{"a@tempinc.example", smtp.SenderNXDomain, "temperror"}, {"a@broken.example", smtp.SenderFailed, "temperror"},
		{"a@nowhere.example", smtp.SenderNXDomain, "none"}, {"a@loop.example", smtp.SenderNullMX, "none"},
		{"", "", "pass"},
	} {
		domain, spf, _ := w.scout().Sender(t.Context(), peer, "pass.example", c.from)
		if domain != c.domain || spf.Result != c.spf {
			t.Errorf("%q: %q %q, want %q %q", c.from, domain, spf.Result, c.domain, c.spf)
		}
	}
	for domain, wide := range map[string]bool{"pass": false, "slash16": false, "slash15": true, "all": true, "anybody": true, "redirect": false, "fail": false} {
		if _, spf, _ := w.scout().Sender(t.Context(), peer, "x.example", "a@"+domain+".example"); spf.Wide != wide {
			t.Errorf("%s: %+v, want wide %v", domain, spf, wide)
		}
	}
	w = newWorld(t)
	w.fail(".", true)
	if domain, spf, _ := w.scout().Sender(t.Context(), peer, "pass.example", "a@pass.example"); domain != "" || spf.Result != "" {
		t.Errorf("a sick resolver knows %q %q", domain, spf.Result)
	}
}

// R-BW-E19: who has no MX record is put off first. R-CX-03: an empty answer that
// no zone vouches for is no no.
func TestSenderWithoutMX(t *testing.T) {
	w := newWorld(t, "addr.example. 60 A 192.0.2.1")
	s := w.scout()
	domain := func(name string) smtp.SenderDomain {
		d, _, _ := s.Sender(t.Context(), peer, "x.example", "a@"+name)
		return d
	}
	for _, step := range []struct {
		after time.Duration
		want  smtp.SenderDomain
	}{{0, smtp.SenderNoMXYet}, {5 * time.Minute, smtp.SenderNoMXYet}, {5 * time.Minute, smtp.SenderNoMX}, {25 * time.Hour, smtp.SenderNoMXYet}} {
		w.later(step.after)
		if got := domain("addr.example"); got != step.want {
			t.Errorf("after %v more: %s, want %s", step.after, got, step.want)
		}
	}
	w.mu.Lock()
	w.lame = true
	w.mu.Unlock()
	w.add(t, "lame.example. 60 A 192.0.2.1", "sub.empty.example. 60 A 192.0.2.1")
	if a, b := domain("lame.example"), domain("empty.example"); a != smtp.SenderOK || b != smtp.SenderFailed {
		t.Errorf("nobody vouches for the answer: %s, %s", a, b)
	}
}

// R-BX-24: a list that begins to list the world refuses nobody, not even until
// its next test.
func TestAListThatListsTheWorldIsFoundOut(t *testing.T) {
	w := newWorld(t, "7.100.51.198.key1234567890ab.bl.example. 60 A 127.0.0.2")
	w.lists.Test(t.Context())
	w.later(2 * time.Second) // what the test was told is old
	w.add(t, "1.0.0.127.key1234567890ab.bl.example. 60 A 127.0.0.2")
	if _, l := w.scout().Peer(t.Context(), peer); len(l) != 0 || len(w.told) != 1 || !strings.Contains(w.told[0], "lists the world") {
		t.Errorf("%+v, %q", l, w.told)
	}
}
