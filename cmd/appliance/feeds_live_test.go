package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// webFeed is a real web server in the lab that publishes a list.
type webFeed struct {
	list, mood atomic.Value
	same       atomic.Int64 // times that it said 304
}

// publish serves a list at http://192.0.2.10:8080/drop.
func (b *keyBench) publish(list string) *webFeed {
	b.t.Helper()
	w := &webFeed{}
	w.list.Store(list)
	w.mood.Store("")
	l, err := b.office.Listen(netip.MustParseAddrPort("192.0.2.10:8080"))
	if err != nil {
		b.t.Fatal(err)
	}
	server := &http.Server{Handler: w}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	b.t.Cleanup(func() { server.Close(); <-done })
	return w
}

func (w *webFeed) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	list := w.list.Load().(string)
	rw.Header().Set("Content-Type", "text/plain")
	switch w.mood.Load() {
	case "cut":
		rw.Header().Set("Content-Length", fmt.Sprint(2*len(list)))
	case "html":
		list = "<!DOCTYPE html><title>Too many requests</title>"
	case "hang":
		io.WriteString(rw, list)
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	default:
		etag := fmt.Sprintf(`"%d"`, len(list))
		rw.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.same.Add(1)
			rw.WriteHeader(http.StatusNotModified)
			return
		}
	}
	io.WriteString(rw, list)
}

// R-BX-04: a feed from the web is in force, and stays so whatever comes next of it.
func TestAFeedFromTheWeb(t *testing.T) {
	b := newKeyBench(t)
	web := b.publish(`{"cidr":"198.18.0.0/16","sblid":"SBL1"}` + "\n" + `{"cidr":"192.0.2.25/32"}` + "\n" + `{"type":"metadata","records":2}` + "\n")
	b.apply(map[string]string{"feed.drop.source": `"http://192.0.2.10:8080/drop"`})
	b.Eventually(20*time.Second, "the feed is in force", func() bool { return b.status().Mail.Feeds[0].Entries == 1 })
	if s := strings.Join(b.status().Problems, "\n"); !strings.Contains(s, "192.0.2.25/32 (an address of this machine)") {
		t.Errorf("nobody is told that it has our own address:\n%s", s)
	}
	web.list.Store("; Spamhaus DROP List\n198.18.0.0/16 ; SBL1\n198.51.100.0/24 ; SBL2\n")
	b.cmd("lists", "fetch", "drop")
	b.cmd("lists", "fetch", "drop")
	if web.same.Load() != 1 || len(b.status().Mail.Alarms) != 0 {
		t.Errorf("304 was said %d times; alarms: %q", web.same.Load(), b.status().Mail.Alarms)
	}
	if _, greeting := b.call(b.source()); greeting.Code != 554 || !strings.Contains(greeting.String(), "5.7.1 Your address is blocked here") {
		t.Errorf("who is on it hears %v", greeting)
	}
	web.list.Store("203.0.113.0/24\n")
	for _, mood := range []string{"cut", "html"} {
		web.mood.Store(mood)
		if out, err := b.weir.Cmd(t.Context(), "lists", "fetch", "drop"); err == nil {
			t.Errorf("%s: it is taken: %s", mood, out)
		}
		if _, greeting := b.call(b.source()); greeting.Code != 554 {
			t.Errorf("%s: who was on it hears %v", mood, greeting)
		}
	}
	if out := b.cmd("lists", "feeds"); !strings.Contains(out, "the last good one: it is no list") {
		t.Errorf("weir lists feeds says\n%s", out)
	}
	web.mood.Store("hang") // a start waits for nobody
	b.weir.Stop()
	b.weir.Start()
	if _, greeting := b.call(b.source()); greeting.Code != 554 {
		t.Errorf("after a restart who is on it hears %v", greeting)
	}
	if out, _ := b.weir.Cmd(t.Context(), "test", "--from", "198.18.3.3"); !strings.Contains(out, "block 198.18.0.0/16 by feed.drop: http://192.0.2.10:8080/drop") {
		t.Errorf("weir test says\n%s", out)
	}
	b.cmd("allow", "198.18.9.0/24", "--why", "a customer", "--no-trial")
	if _, greeting := b.call(netip.MustParseAddr("198.18.9.7")); greeting.Code != 220 {
		t.Errorf("whom the operator lets in hears %v", greeting)
	}
}

// A feed that bans has the kernel drop who comes, and nobody else.
func TestAFeedThatBans(t *testing.T) {
	b := newKeyBench(t)
	b.apply(map[string]string{"feed.drop.source": `"/etc/mailweir/feed"`, "feed.drop.action": `"ban"`})
	b.fed("")
	from := b.source()
	c, greeting := b.call(from)
	if greeting.Code != 220 {
		t.Fatalf("it hears %v", greeting)
	}
	say(c, "EHLO out.example", "MAIL FROM:<a@out.example>") // as far as it gets
	b.Eventually(10*time.Second, "the kernel drops it", func() bool { return b.dropped(from) })
	if out := b.cmd("bans"); !strings.Contains(out, from.String()) || !strings.Contains(out, "feed") {
		t.Errorf("weir bans says\n%s", out)
	}
	if out := b.cmd("why", from.String()); !strings.Contains(out, "feed.drop 198.18.0.0/16") {
		t.Errorf("weir why says\n%s", out)
	}
}

// R-CX-04: the networks of providers come from their SPF records as a real resolver
// has them; they are spared bans and lists, but for a narrower block.
func TestProvidersAreSpared(t *testing.T) {
	b := newKeyBench(t)
	b.weir.Stop() // with what it knows of names
	var huge strings.Builder
	for i := range 9 { // each may be one, and all are more than any has
		fmt.Fprintf(&huge, " ip4:%d.0.0.0/12", 64+i)
	}
	b.ns.Serve("mx1.example.com. A 192.0.2.25", "office.example.net. A 192.0.2.10",
		"2.0.0.127.bl.example. A 127.0.0.2", "7.1.18.198.bl.example. A 127.0.0.2", "1.113.0.203.bl.example. A 127.0.0.2",
		`_spf.google.com. TXT "v=spf1 include:_netblocks.google.com include:_netblocks2.google.com ~all"`,
		`_netblocks.google.com. TXT "v=spf1 ip4:198.18.0.0/17 ip6:2001:db8:4000::/36 ~all"`,
		`_netblocks2.google.com. TXT "v=spf1 redirect=loop.google.com"`,
		`loop.google.com. TXT "v=spf1 include:_spf.google.com exists:%{i}.google.com ip4:203.0.113.0/24 ~all"`,
		`all.example. TXT "v=spf1 ip4:0.0.0.0/0 -all"`, `huge.example. TXT "v=spf1`+huge.String()+` -all"`)
	keys := map[string]string{
		"providers.spare": `["google", "all.example", "huge.example"]`, "dnsbl.bl.zone": `"bl.example"`, "dnsbl.bl.scores": `{ "127.0.0.2" = 9 }`,
		"geo.database": `"/etc/mailweir/country.mmdb"`, "geo.ban": `["NL"]`,
	}
	b.apply(keys)
	b.Eventually(20*time.Second, "the providers are looked up", func() bool {
		p := b.status().Mail.Providers
		return p[0].Networks == 3 && p[1].Why != "" && p[2].Why != ""
	})
	alarms := strings.Join(b.status().Problems, "\n")
	for _, want := range []string{"all.example names 0.0.0.0/0, which is wider than any provider's network", "huge.example"} {
		if !strings.Contains(alarms, want) {
			t.Errorf("no alarm tells of %q:\n%s", want, alarms)
		}
	}
	spared, banned := netip.MustParseAddr("198.18.1.7"), netip.MustParseAddr("198.18.200.7")
	for from, want := range map[netip.Addr]bool{spared: false, banned: true} {
		b.call(from)
		if b.dropped(from) != want {
			t.Errorf("%v is dropped: %v", from, !want)
		}
	}
	if d := b.judged(spared.String(), "out.example"); d.Reason != "" {
		t.Errorf("a provider's host on a DNS list is refused: %+v", d)
	}
	b.cmd("block", spared.String(), "--why", "a test")
	if d := b.judged(spared.String(), "out.example"); d.Reason == "" {
		t.Error("the operator's narrower block does not count")
	}
	b.weir.Stop()
	b.ns.Serve("mx1.example.com. A 192.0.2.25") // the records are gone
	b.weir.Start()
	if p := b.status().Mail.Providers[0]; p.Networks != 3 {
		t.Errorf("the last good set is lost: %+v", p)
	}
}

// What a domain only observes is accepted, told of, and summed up; what a source
// sent before counts for it.
func TestADomainThatObserves(t *testing.T) {
	b := newKeyBench(t)
	b.apply(map[string]string{"geo.database": `"/etc/mailweir/country.mmdb"`, "geo.reject": `["NL"]`, `domain."example.com".observe`: "true"})
	from := b.source()
	b.spam(from, b.rcpt())
	b.Eventually(10*time.Second, "the report has it", func() bool {
		out := b.cmd("records", "--would")
		return strings.Contains(out, "geo ") && strings.Contains(out, "example.com") && strings.Contains(out, from.String())
	})
	if out := b.cmd("status"); !regexp.MustCompile(`spared +geo 1, .*: would be refused`).MatchString(out) || !strings.Contains(out, ", observing") {
		t.Errorf("weir status says\n%s", out)
	}
	c, _ := b.call(b.source())
	if said := say(c, "EHLO out.example", "MAIL FROM:<a@out.example>", "RCPT TO:<user1@spare.example.com>"); said.Code != 554 {
		t.Errorf("another domain hears %v", said)
	}
	out, _ := b.weir.Cmd(t.Context(), "test", "--from", from.String(), "--helo", "out.example", "--mail", "a@out.example", "--rcpt", b.rcpt())
	if !strings.Contains(out, string(reply.History)) || !strings.Contains(out, "1 mail on 1 day") {
		t.Errorf("weir test says\n%s", out)
	}
	if why := b.cmd("why", from.String()); !strings.Contains(why, string(smtp.Accepted)) {
		t.Errorf("weir why says\n%s", why)
	}
}
