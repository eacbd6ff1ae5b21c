package bench

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// side is one of the two that are compared.
type side struct {
	name string // and version
	host *lab.Host
}

// duel is one figure: two sides, one after the other and again, under the same
// load.
type duel struct {
	*site
	what    string // a session is
	sides   [2]side
	aim     float64 // how much less processor time ours is to take
	leftOut []string
	arrived func() int // messages at the backend so far; nil where none are sent
}

// measure is what one round of one side cost.
type measure struct {
	yield
	cpu     time.Duration // of the side's host
	client  time.Duration
	backend time.Duration
	queries int // that the name server got
	arrived int // messages at the backend
}

// perSession is the processor time of a session, in milliseconds.
func (m measure) perSession(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000 / float64(m.Sessions)
}

// fight runs the rounds and reports them.
func (d *duel) fight(b *testing.B, what load) {
	var all [2][]measure
	for round := range rounds + 1 {
		for i := range d.sides {
			what.Round, what.Target = round, smtpPort(d.sides[i].host)
			m := d.round(b, d.sides[i], what)
			if round > 0 { // the first one fills caches, pools and pages of both
				all[i] = append(all[i], m)
			}
		}
	}
	d.report(b, all)
}

func (d *duel) round(b *testing.B, s side, what load) measure {
	quiet(b, s.host)
	hosts := [...]*lab.Host{s.host, d.client, d.office}
	var before [len(hosts)]time.Duration
	for i, h := range hosts {
		before[i] = cpu(b, h)
	}
	arrived := d.messages()
	queries := datagrams(b, d.ns)
	m := measure{yield: drive(b, d.Lab, d.client, what)}
	quiet(b, s.host) // what it has put off, such as writing records, is part of it
	m.queries = datagrams(b, d.ns) - queries
	if m.arrived = d.messages() - arrived; d.arrived != nil && m.arrived != m.Sessions {
		b.Fatalf("%s: %d messages were accepted, and %d arrived", s.name, m.Sessions, m.arrived)
	}
	m.cpu, m.client, m.backend = cpu(b, hosts[0])-before[0], cpu(b, hosts[1])-before[1], cpu(b, hosts[2])-before[2]
	return m
}

func (d *duel) messages() int {
	if d.arrived == nil {
		return 0
	}
	return d.arrived()
}

func (d *duel) report(b *testing.B, all [2][]measure) {
	b.Logf("%s; a session: %s, %d rounds each, interleaved", machine(), d.what, rounds)
	var cost [2]spread
	for i, s := range d.sides {
		cost[i] = spreadOf(all[i], func(m measure) float64 { return m.perSession(m.cpu) })
		rate := spreadOf(all[i], func(m measure) float64 { return float64(m.Sessions) / m.Elapsed.Seconds() })
		m := all[i][len(all[i])-1]
		b.Logf("%-24s %s ms of processor a session, %s sessions/s; session p50 %v p99 %v; not counted: client %.3f ms, backend %.3f ms; look-ups of names %.2f a session",
			s.name, cost[i], rate, m.P50.Round(time.Microsecond), m.P99.Round(time.Microsecond),
			m.perSession(m.client), m.perSession(m.backend), float64(m.queries)/float64(m.Sessions))
	}
	if d.arrived != nil {
		b.Logf("every message that was accepted arrived: %d and %d in the last round", all[0][rounds-1].arrived, all[1][rounds-1].arrived)
	}
	for _, left := range d.leftOut {
		b.Logf("left out: %s", left)
	}
	ratio := cost[1].least / cost[0].least
	b.ReportMetric(cost[0].least, "ms-ours")
	b.ReportMetric(cost[1].least, "ms-peer")
	b.ReportMetric(ratio, "times-less")
	b.ReportMetric(0, "ns/op")
	results.add(d.what, cost[0].String()+" ms", cost[1].String()+" ms", fmt.Sprintf("%.1f times less, aim %.1f", ratio, d.aim))
}

// spread is what several rounds gave.
type spread struct{ least, middle, most float64 }

func spreadOf[M any](all []M, f func(M) float64) spread {
	var v []float64
	for _, m := range all {
		v = append(v, f(m))
	}
	slices.Sort(v)
	return spread{v[0], v[len(v)/2], v[len(v)-1]}
}

// String is the least, and the middle and the most of all rounds.
func (s spread) String() string {
	digits := 3
	if s.least >= 100 {
		digits = 0
	}
	return fmt.Sprintf("%.*f (%.*f, %.*f)", digits, s.least, digits, s.middle, digits, s.most)
}

func cpu(b *testing.B, h *lab.Host) time.Duration {
	b.Helper()
	d, err := h.CPU()
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// quiet waits until a host has nothing more to do.
func quiet(b *testing.B, h *lab.Host) {
	b.Helper()
	const look, idle = 150 * time.Millisecond, 3 * time.Millisecond
	last := cpu(b, h)
	for range 60 {
		time.Sleep(look)
		now := cpu(b, h)
		if now-last < idle {
			return
		}
		last = now
	}
	b.Fatalf("%s does not come to rest", h.Name)
}

// datagrams is how many UDP datagrams a host has received.
func datagrams(b *testing.B, h *lab.Host) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", h.PID()))
	if err != nil {
		b.Fatal(err)
	}
	names, values := []string(nil), []string(nil)
	for line := range bytes.Lines(text) {
		if rest, ok := strings.CutPrefix(string(line), "Udp: "); ok {
			names, values = values, strings.Fields(rest)
		}
	}
	i := slices.Index(names, "InDatagrams")
	if i < 0 {
		b.Fatalf("no InDatagrams in %s", text)
	}
	n, err := strconv.Atoi(values[i])
	if err != nil {
		b.Fatal(err)
	}
	return n
}
