package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/miekg/dns"

	"mailweir/config"
	"mailweir/lab"
)

// A probe shows that a key of the configuration has an effect: seen is false
// without the key, true with it, and false again when it is taken out.
type probe struct {
	set  string            // value of the key
	with map[string]string // further keys, there all the time
	also map[string]string // further keys, there together with it
	seen func(b *keyBench) bool
}

// keyBench is the appliance in a lab, under one configuration after another. A
// bench is for one test at a time.
type keyBench struct {
	*lab.Lab
	t             *testing.T
	ns            *lab.DNS
	edge, out     *lab.Host // out is where clients come from
	office        *lab.Host
	first, second *sink // behind backend.office and backend.spare
	cert          tls.Certificate
	weir          *lab.Weir
	open          []*lab.Client // by the probe
	file          *config.File
	cfg           config.Config
	sources       int  // addresses that were used
	names         int  // recipients that were used
	guessed       bool // somebody guessed since the appliance was started
}

var keyEdge = netip.MustParseAddrPort("192.0.2.25:25")

// baseSet lets clients in that have no names.
const baseSet = `set = { rdns_missing = "off", sender_nxdomain = "off", helo_unresolvable = "off" }`

// keyBase is what the probes start from: no waits, no caps.
const keyBase = `hostname = "mx1.example.com"

[smtp]
greet_wait = "0s"
per_source = { open = 1000, new_per_minute = 100000 }

[checks]
` + baseSet + `

[firewall]
xdp_mode = "native"

[backend.office]
url = "smtp://192.0.2.10:25"

[backend.spare]
url = "smtp://192.0.2.11:25"

[domain."example.com"]
backends = ["office"]

[domain."spare.example.com"]
backends = ["spare"]
`

// TestEveryKeyHasAnEffect turns every key of the schema on and off in a running
// appliance. A key without a probe is a key that is only parsed.
//
// Probes run side by side, each on a bench that is free: most of their time is
// waiting. A bench lives as long as the test, not the probe.
func TestEveryKeyHasAnEffect(t *testing.T) {
	labNeeds(t)
	idle := make(chan *keyBench, len(config.Keys()))
	probes := maps.Clone(keyProbes)
	maps.Copy(probes, checkProbes)
	for _, path := range config.Keys() {
		p, ok := probes[path]
		if !ok {
			t.Errorf("no probe shows what %s does", path)
			continue
		}
		t.Run(path, func(probe *testing.T) {
			probe.Parallel()
			var b *keyBench
			select {
			case b = <-idle:
			default:
				b = makeKeyBench(t)
			}
			defer func() { idle <- b }()
			b.t = probe
			b.try(strings.NewReplacer("backend.NAME", "backend.office", "dnsbl.NAME", "dnsbl.bl", "feed.NAME", "feed.drop", "domain.NAME", `domain."example.com"`, "syslog.NAME", "syslog.siem").Replace(path), p)
		})
	}
	for _, path := range slices.Sorted(maps.Keys(probes)) {
		if !slices.Contains(config.Keys(), path) {
			t.Errorf("%s has a probe and is no key", path)
		}
	}
}

// labNeeds skips a test of the built program where it cannot run, or tells
// nothing.
func labNeeds(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the program as it is built, in a lab: -short (make race) leaves that to make test")
	}
	needRoot(t)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: make test runs as root")
	}
}

// newKeyBench makes the bench of one test, which runs beside others from then
// on.
func newKeyBench(t *testing.T) *keyBench {
	t.Helper()
	labNeeds(t)
	t.Parallel()
	return makeKeyBench(t)
}

func makeKeyBench(t *testing.T) *keyBench {
	t.Helper()
	b := &keyBench{t: t, cert: lab.Certificate(t)}
	b.Lab = lab.New(owner{t, b})
	b.ns = b.Host("ns", "192.0.2.53").DNS("mx1.example.com. A 192.0.2.25", "office.example.net. A 192.0.2.10",
		`pool.example. TXT "v=spf1 ip4:203.0.113.0/24 -all"`,
		"2.0.0.127.bl.example. A 127.0.0.2", "1.113.0.203.bl.example. A 127.0.0.2")
	b.office = b.Host("office", "192.0.2.10", "192.0.2.11", "192.0.2.54")
	b.first, b.second = b.sink("192.0.2.10:25"), b.sink("192.0.2.11:25")
	b.nameServers()
	b.out = b.Host("out", "203.0.113.1", "198.18.0.0/16")
	b.edge = b.Host("mx1", keyEdge.Addr().String())
	b.put("mx.pem", lab.CertificatePEM(t, b.cert))
	b.put("feed", []byte("198.18.0.0/16 ; SBL1\n2001:db8:bad::/48\n"))
	b.put("recipients", []byte("nobody-else\n"))
	b.put("country.mmdb", lab.GeoFile(t, "GeoLite2-Country", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("NL")}}))
	b.put("asn.mmdb", lab.GeoFile(t, "GeoLite2-ASN", mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500)}))
	b.edit(nil)
	b.weir = b.edge.Weir(string(b.file.Text))
	return b
}

// owner is a bench's lab's test: what is cleaned up goes with the test that made
// the bench, what fails is the one that uses it.
type owner struct {
	*testing.T
	bench *keyBench
}

func (o owner) Fatalf(format string, args ...any) {
	o.bench.t.Helper()
	o.bench.t.Fatalf(format, args...)
}

func (b *keyBench) sink(at string) *sink {
	b.t.Helper()
	l, err := b.office.Listen(netip.MustParseAddrPort(at))
	if err != nil {
		b.t.Fatal(err)
	}
	return serveSink(b.t, l, &b.cert)
}

// nameServers makes one that answers, at 192.0.2.54, and one that never does,
// at 192.0.2.10.
func (b *keyBench) nameServers() {
	b.t.Helper()
	var answering, silent net.PacketConn
	if err := b.office.Do(func() (err error) {
		if answering, err = net.ListenPacket("udp", "192.0.2.54:53"); err == nil {
			silent, err = net.ListenPacket("udp", "192.0.2.10:53")
		}
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	server := &dns.Server{PacketConn: answering, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			rr, _ := dns.NewRR(q.Question[0].Name + " 60 A 192.0.2.10")
			a.Answer = append(a.Answer, rr)
		}
		w.WriteMsg(a)
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.ActivateAndServe() }()
	b.t.Cleanup(func() { server.Shutdown(); <-done; silent.Close() })
}

// try sees the key's effect come and go.
func (b *keyBench) try(path string, p probe) {
	b.t.Helper()
	on := maps.Clone(p.with)
	if on == nil {
		on = map[string]string{}
	}
	maps.Copy(on, p.also)
	on[path] = p.set
	if b.guessed {
		b.weir.Stop()
		b.startAnew()
	}
	b.apply(p.with)
	if b.see(p) {
		b.t.Fatalf("the effect of %s is there without it", path)
	}
	b.apply(on)
	if !b.see(p) {
		b.t.Errorf("%s = %s has no effect", path, p.set)
	}
	b.apply(p.with)
	if b.see(p) {
		b.t.Errorf("the effect of %s stays when it is taken out", path)
	}
}

// see looks for the effect, and leaves no connection open.
func (b *keyBench) see(p probe) bool {
	b.t.Helper()
	seen := p.seen(b)
	for _, c := range b.open {
		c.Close()
	}
	if b.open = nil; b.weir.PID("mail") != 0 {
		b.Eventually(30*time.Second, "the edge has no connection left", func() bool { return b.status().Mail.Open == 0 })
	}
	return seen
}

// apply puts keyBase with these keys in force: by a reload, or by a start where
// a key needs one.
func (b *keyBench) apply(keys map[string]string) {
	b.t.Helper()
	before := b.cfg
	b.edit(keys)
	b.weir.Configure(string(b.file.Text))
	now, later := config.Diff(before, b.cfg)
	select {
	case <-b.weir.Process().Done(): // the probe before gave up between stop and start
		b.startAnew()
		return
	default:
	}
	switch {
	case len(later) > 0:
		b.weir.Stop()
		b.startAnew()
	case len(now) > 0:
		if _, err := b.weir.Cmd(b.t.Context(), "reload"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// startAnew starts with nothing remembered of who guessed: the probes together
// would be an attack on the domain, which strangers are told nothing of.
func (b *keyBench) startAnew() {
	b.t.Helper()
	if out, err := b.edge.Run(b.t.Context(), "/bin/rm", "-f", "/var/lib/mailweir/mail/harvest.state"); err != nil {
		b.t.Fatalf("forget who guessed: %v: %s", err, out)
	}
	b.guessed = false
	b.weir.Start()
}

func (b *keyBench) edit(keys map[string]string) {
	b.t.Helper()
	base := keyBase
	if _, whole := keys["checks.set"]; whole { // it takes the place of the base's
		base = strings.Replace(base, baseSet, "", 1)
	}
	file, cfg, problems := config.Parse("weir.toml", []byte(base))
	for _, path := range slices.Sorted(maps.Keys(keys)) {
		var err error
		if file, cfg, problems, err = file.Set(path, keys[path]); err != nil {
			b.t.Fatal(err)
		}
	}
	if problems.Bad() {
		b.t.Fatal(problems)
	}
	b.file, b.cfg = file, cfg
}

// source is an address, in a network, that never came before.
func (b *keyBench) source() netip.Addr {
	b.sources++
	return netip.AddrFrom4([4]byte{198, 18, byte(b.sources), 7})
}

// rcpt is a recipient that never was before; the sinks know it.
func (b *keyBench) rcpt() string {
	b.names++
	return fmt.Sprintf("user%d@example.com", b.names)
}

// call connects from an address; a refused connection has no client.
func (b *keyBench) call(from netip.Addr) (*lab.Client, lab.Reply) {
	b.t.Helper()
	c, greeting, err := b.out.SMTP(b.t.Context(), from, keyEdge)
	if err != nil {
		return nil, greeting
	}
	b.open = append(b.open, c)
	return c, greeting
}

// mustCall is call for a probe that needs its session.
func (b *keyBench) mustCall() *lab.Client {
	b.t.Helper()
	c, greeting := b.call(b.source())
	if c == nil || greeting.Code != 220 {
		b.t.Fatalf("the edge does not greet: %v", greeting)
	}
	return c
}

// say gives commands and returns the last reply; an error is a reply with code 0.
func say(c *lab.Client, lines ...string) (r lab.Reply) {
	for _, line := range lines {
		var err error
		if r, err = c.Cmd("%s", line); err != nil {
			return lab.Reply{}
		}
	}
	return r
}

// mostGuesses is after how many an innocent source has shown that it is spared.
const mostGuesses = 40

// guesses makes up to mostGuesses guesses from an address, few in a session, so
// that none is slowed. It returns how many were answered until none was.
func (b *keyBench) guesses(from netip.Addr) (answered int) {
	b.t.Helper()
	b.guessed = true
	const inSession = 3
	for answered < mostGuesses {
		if answered > 0 && b.dropped(from) {
			return answered
		}
		c, _ := b.call(from)
		if c == nil {
			return answered
		}
		say(c, "EHLO out.example", "MAIL FROM:<a@out.example>")
		for i := 0; i < inSession && answered < mostGuesses; i++ {
			b.names++
			if say(c, fmt.Sprintf("RCPT TO:<guess%d@example.com>", b.names)).Code == 0 {
				break
			}
			answered++
		}
		c.Close()
	}
	return answered
}

// banned has the operator ban a fresh address and says whether it is dropped.
func (b *keyBench) banned() bool {
	b.t.Helper()
	from := b.source()
	b.cmd("ban", from.String(), "--why", "test")
	defer b.cmd("unban", from.String())
	return b.dropped(from)
}

// dropped says whether a connect hears nothing at all.
func (b *keyBench) dropped(from netip.Addr) bool {
	ctx, cancel := context.WithTimeout(b.t.Context(), 1200*time.Millisecond) // past the first SYN's repetition
	defer cancel()
	conn, err := b.out.DialFrom(ctx, from, keyEdge)
	if err == nil {
		conn.Close()
	}
	var late net.Error // a reset is an answer, of a gate
	return errors.As(err, &late) && late.Timeout()
}

func (b *keyBench) cmd(args ...string) string {
	b.t.Helper()
	out, err := b.weir.Cmd(b.t.Context(), args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// quiet says that nothing comes from the edge for a while.
func quiet(c *lab.Client) bool {
	c.Conn().SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err := c.Conn().Read(make([]byte, 1))
	return os.IsTimeout(err)
}
