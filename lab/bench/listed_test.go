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
// beside them, and beside nobody.
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

	const strangers, times = 10_000, 100
	quiet(b, s.edge)
	idle := greetings(b, known, smtpPort(s.edge), times)
	pids := []int{s.weir.PID("mail")}
	before := s.memory(b, s.edge, pids)
	crowd, took := s.crowd(b, strangers)
	held := s.memory(b, s.edge, pids)
	atStart := crowd.waiting()
	beside := greetings(b, known, smtpPort(s.edge), times)
	left := crowd.waiting()

	each := float64(held.resident-before.resident) / float64(strangers) / 1024
	b.Logf("%s; %s: %d strangers came within %v, and %d to %d of them waited; %.1f KiB resident for each; a known sender is greeted in p50 %v p99 %v beside them, p50 %v p99 %v beside nobody",
		machine(), side.name, strangers, took.Round(time.Millisecond), left, atStart, each, at(beside, 50), at(beside, 99), at(idle, 50), at(idle, 99))
	if left < strangers*9/10 {
		b.Logf("too slow a machine: most have been greeted by then")
	}
	b.ReportMetric(each, "KiB/stranger")
	b.ReportMetric(float64(at(beside, 99).Microseconds()), "µs-p99")
	b.ReportMetric(0, "ns/op")
	results.add(fmt.Sprintf("a known sender's greeting beside %d strangers at the gate", left),
		fmt.Sprintf("p50 %v, p99 %v", at(beside, 50), at(beside, 99)), "none", fmt.Sprintf("beside nobody p50 %v, p99 %v; %.1f KiB a stranger", at(idle, 50), at(idle, 99), each))
}

// crowd are connections that were opened; those that have heard a whole greeting
// wait no more.
type crowd struct {
	conns   []net.Conn
	greeted atomic.Int64
}

func (c *crowd) waiting() int { return len(c.conns) - int(c.greeted.Load()) }

// crowd opens connections, each from an address of its own, as fast as it can.
func (s *site) crowd(b *testing.B, n int) (*crowd, time.Duration) {
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
			nc, err := dialWithin(nth(sources, i+1), smtpPort(s.edge), 5*time.Second)
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
	took := time.Since(began)
	for _, nc := range c.conns {
		go func() {
			in := bufio.NewReaderSize(nc, 64)
			for line := ""; !strings.HasPrefix(line, "220 "); {
				var err error
				if line, err = in.ReadString('\n'); err != nil {
					break
				}
			}
			c.greeted.Add(1)
		}()
	}
	return c, took
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
