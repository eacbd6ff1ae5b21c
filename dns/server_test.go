package dns_test

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// liar is a name server on loopback that can be made to fail in every way.
type liar struct {
	at netip.AddrPort

	mu    sync.Mutex
	zone  map[string][]miekg.RR // "name kind"
	mood  string                // "", "silent", "servfail", "refused", "nxdomain", "wild", "other", "cut", "lame"
	spare string                // names with this suffix are answered well whatever the mood; canaries too when "canaries", what of them a cache has when "kept"
	asked map[string]int
	from  map[string]string // where a question came from last
	hold  chan struct{}     // answers wait for it
}

// newLiar starts one; records are lines of a zone file.
func newLiar(t *testing.T, records ...string) *liar {
	t.Helper()
	l := &liar{asked: map[string]int{}, from: map[string]string{}}
	l.serve(t, append(records, ". 3600 SOA ns. host. 1 3600 600 86400 300")...)
	pc, tcp := bothPorts(t)
	l.at = netip.MustParseAddrPort(pc.LocalAddr().String())
	for _, s := range []*miekg.Server{{PacketConn: pc, Handler: l}, {Listener: tcp, Handler: l}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		done := make(chan struct{})
		go func() { defer close(done); s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { s.Shutdown(); <-done })
	}
	return l
}

// bothPorts takes one port for UDP and TCP: the kernel gives them out apart.
func bothPorts(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if pc, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return pc, tcp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func (l *liar) serve(t *testing.T, records ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.zone = map[string][]miekg.RR{}
	for _, line := range records {
		rr, err := miekg.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		key := strings.ToLower(rr.Header().Name) + " " + miekg.TypeToString[rr.Header().Rrtype]
		l.zone[key] = append(l.zone[key], rr)
	}
}

func (l *liar) be(mood, spare string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mood, l.spare = mood, spare
}

func (l *liar) count(name, kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[name+" "+kind]
}

func (l *liar) ServeDNS(w miekg.ResponseWriter, q *miekg.Msg) {
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	key := name + " " + miekg.TypeToString[kind]
	l.mu.Lock()
	l.asked[key]++
	l.from[key] = w.RemoteAddr().String()
	mood, hold := l.mood, l.hold
	canary := name == "." || strings.HasPrefix(name, "canary-")
	kept := name == "." || strings.HasSuffix(name, ".invalid.") // what a resolver without a way out has still
	if canary && l.spare == "canaries" || kept && l.spare == "kept" {
		mood, hold = "", nil
	}
	a := l.answer(q, key, name)
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	switch mood {
	case "silent":
		return
	case "servfail":
		a = new(miekg.Msg).SetRcode(q, miekg.RcodeServerFailure)
	case "refused":
		a = new(miekg.Msg).SetRcode(q, miekg.RcodeRefused)
	case "nxdomain":
		a = new(miekg.Msg).SetRcode(q, miekg.RcodeNameError)
	case "wild":
		rr, _ := miekg.NewRR(name + " 60 A 192.0.2.66")
		a.Rcode, a.Answer = miekg.RcodeSuccess, []miekg.RR{rr}
	case "other":
		a.Question[0].Name = "other.example."
	case "lame":
		a.Rcode, a.Answer, a.Ns = miekg.RcodeSuccess, nil, nil
	case "cut":
		if udp {
			a.Truncated, a.Answer = true, nil
		}
	}
	w.WriteMsg(a)
}

// answer is what an honest server says.
func (l *liar) answer(q *miekg.Msg, key, name string) *miekg.Msg {
	a := new(miekg.Msg).SetReply(q)
	if a.Answer = l.zone[key]; len(a.Answer) > 0 {
		return a
	}
	soa, _ := miekg.NewRR(". 3600 SOA ns. host. 1 3600 600 86400 300")
	a.Ns = append(a.Ns, soa)
	for have := range l.zone {
		if n, _, _ := strings.Cut(have, " "); n == name || strings.HasSuffix(n, "."+name) {
			return a
		}
	}
	a.Rcode = miekg.RcodeNameError
	return a
}

// clock is a time that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wayOut is how often a name was asked for that no cache has.
func (l *liar) wayOut() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for q, times := range l.asked {
		if strings.HasSuffix(q, ".root-servers.net. A") {
			n += times
		}
	}
	return n
}
