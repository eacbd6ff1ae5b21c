package bench

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailweir/lab"
)

// listed starts a DNS list (rbldnsd) that has all sources of clients, for both
// sides to ask through the name server.
func (s *site) listed(b *testing.B) {
	b.Helper()
	bl := s.Host("bl", "192.0.2.54")
	bl.DNSBL("bl.example", sources.String()+" :127.0.0.2:spam source")
	s.dns.Delegate("bl.example", bl)
}

// asked waits until our side asks the list, which it tests first.
func (s *site) asked(b *testing.B) {
	b.Helper()
	s.Eventually(patience, "the list is asked", func() bool {
		out, _ := s.weir.Cmd(patient(b), "status", "--json") // exits 1 while anything is wrong
		return !strings.Contains(out, "under way") && strings.Contains(out, "{")
	})
}

// BenchmarkRefuseListed refuses strangers that are on a DNS list, each from an
// address of its own, after equal waits before the greeting; the peer is
// Postfix with postscreen.
func BenchmarkRefuseListed(b *testing.B) {
	s := newSite(b)
	s.listed(b)
	s.writeRecipients(b)
	d := duel{
		site: s, what: "a client on a DNS list refused, after 2 s before the greeting", aim: 1,
		sides: [2]side{s.ours(b, "dnsbl.toml"), s.theirs(b, "dnsbl.cf", "dnsbl.master.cf")},
		leftOut: []string{
			"ours: harvest, which would ban the clients",
			"theirs: names (of the client, its HELO, its sender), SPF, and a record of each transaction; postscreen logs lines",
		},
	}
	s.asked(b)
	d.fight(b, load{Sources: sources, Clients: 150, For: 6 * time.Second, Listed: true})
}

// BenchmarkGate holds strangers on a DNS list before the greeting, where they
// wait for ten seconds, and measures how long a known sender waits for its own
// beside them, and beside nobody. Every one of the strangers waits from the
// beginning of the measurement to its end: who was counted at both ends by the
// clients and by the appliance.
func BenchmarkGate(b *testing.B) {
	s := newSite(b)
	s.listed(b)
	s.writeRecipients(b)
	s.sink(b)
	known := s.Host("known", "198.51.100.7")
	side := s.ours(b, "gate.toml")
	s.asked(b)
	c, _, err := known.SMTP(patient(b), known.Addr(), smtpPort(s.edge)) // from now on it is known
	if err != nil {
		b.Fatal(err)
	}
	if r, err := c.Deliver("a@sender.example", []string{"anna@example.com"}, body("<first@sender.example>", 100)); err != nil || r.Code != 250 {
		b.Fatalf("%v, %v", r, err)
	}
	c.Close()
	s.crowd(b, gateAddresses, gateAddresses).leave(b, s) // what is to be looked up of them is known from now on

	const times = 100
	idle := greetings(b, known, smtpPort(s.edge), times)
	var g gateFigure
	for try := 1; !g.whole(); try++ {
		if try > 3 {
			b.Fatalf("the machine is too slow to hold %d strangers at once", strangers)
		}
		if g = s.gateFigure(b, known, times); !g.whole() {
			b.Logf("not all of them: they came within %v, %d and %d waited, %d and %d were open", g.took, g.waiting[0], g.waiting[1], g.open[0], g.open[1])
		}
	}
	b.Logf("%s; %s: %d strangers from %d addresses came within %v, and all of them waited all the time (%d and %d connections open); %.1f KiB resident for each; a known sender is greeted in p50 %v p99 %v beside them, p50 %v p99 %v beside nobody",
		machine(), side.name, strangers, gateAddresses, g.took.Round(time.Millisecond), g.open[0], g.open[1], g.each, at(g.beside, 50), at(g.beside, 99), at(idle, 50), at(idle, 99))
	b.ReportMetric(g.each, "KiB/stranger")
	b.ReportMetric(float64(at(g.beside, 99).Microseconds()), "µs-p99")
	b.ReportMetric(0, "ns/op")
	results.add(fmt.Sprintf("a known sender's greeting beside %d strangers at the gate", strangers),
		fmt.Sprintf("p50 %v, p99 %v", at(g.beside, 50), at(g.beside, 99)), "none", fmt.Sprintf("beside nobody p50 %v, p99 %v; %.1f KiB a stranger", at(idle, 50), at(idle, 99), g.each))
}

// strangers come from a tenth as many addresses: all of them have to be there
// within the ten seconds that the gate holds the first.
const strangers, gateAddresses = 10_000, 1_000

// gateFigure is one measurement beside strangers.
type gateFigure struct {
	took    time.Duration // all of them came within
	waiting [2]int        // of them, when it began and when it ended
	open    [2]int        // connections that the appliance has, then
	each    float64       // KiB of resident memory
	beside  []time.Duration
}

func (g *gateFigure) whole() bool {
	return g.waiting == [2]int{strangers, strangers} && g.open[0] >= strangers && g.open[1] >= strangers
}

func (s *site) gateFigure(b *testing.B, known *lab.Host, times int) (g gateFigure) {
	b.Helper()
	quiet(b, s.edge)
	pids := []int{s.weir.PID("mail")}
	before := s.memory(b, s.edge, pids)
	crowd := s.crowd(b, strangers, gateAddresses)
	g.took = crowd.took
	var after counted
	s.Eventually(10*time.Second, "all are accepted, or the first are greeted", func() bool {
		after = s.memory(b, s.edge, pids)
		return after.open >= strangers || crowd.waiting() < strangers
	})
	g.waiting[0], g.open[0] = crowd.waiting(), after.open
	g.beside = greetings(b, known, smtpPort(s.edge), times)
	g.open[1] = s.memory(b, s.edge, pids).open
	g.waiting[1] = crowd.waiting()
	g.each = float64(after.resident-before.resident) / strangers / 1024
	crowd.leave(b, s)
	return g
}

// crowd are connections that were opened; those that have heard a whole greeting
// or were closed wait no more.
type crowd struct {
	conns []net.Conn
	done  atomic.Int64
	took  time.Duration
}

func (c *crowd) waiting() int { return len(c.conns) - int(c.done.Load()) }

// leave ends them all, and waits until they are forgotten.
func (c *crowd) leave(b *testing.B, s *site) {
	b.Helper()
	for _, nc := range c.conns {
		nc.Close()
	}
	s.Eventually(patience, "all have left", func() bool { return s.memory(b, s.edge, []int{s.weir.PID("mail")}).open == 0 })
}

// crowd opens connections, from some addresses in turn, as fast as it can.
func (s *site) crowd(b *testing.B, n, addresses int) *crowd {
	b.Helper()
	c := &crowd{}
	b.Cleanup(func() {
		for _, nc := range c.conns {
			nc.Close()
		}
	})
	began := time.Now()
	err := s.client.Do(func() error {
		for i := range n {
			nc, err := dialWithin(nth(sources, i%addresses+1), smtpPort(s.edge), 5*time.Second)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			c.conns = append(c.conns, nc)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	c.took = time.Since(began)
	for _, nc := range c.conns {
		go c.watch(nc)
	}
	return c
}

// watch counts a connection when it waits no more.
func (c *crowd) watch(nc net.Conn) {
	defer c.done.Add(1)
	in := bufio.NewReaderSize(nc, 64)
	for {
		if line, err := in.ReadString('\n'); err != nil || strings.HasPrefix(line, "220 ") {
			return
		}
	}
}

// greetings is how long a host waits for its greeting, from the connect, sorted.
func greetings(b *testing.B, h *lab.Host, to netip.AddrPort, times int) (all []time.Duration) {
	b.Helper()
	for range times {
		began := time.Now()
		c, greeting, err := h.SMTP(patient(b), h.Addr(), to)
		if err != nil || greeting.Code != 220 {
			b.Fatalf("%v, %v", greeting, err)
		}
		all = append(all, time.Since(began))
		c.Close()
	}
	slices.Sort(all)
	return all
}

// at is a percentile of what is sorted.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(time.Microsecond)
}
