package bench

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/firewall/guard"
	"mailweir/lab"
)

// The flood: so many frames a second, each a SYN to the mail port from another of
// the banned addresses 11.0.0.0 to 11.15.255.255, in bursts.
const (
	floodRate    = 100_000
	floodBurst   = 500
	floodSources = 1 << 20
	visitRate    = 200 // connections a second of the trusted sender
)

// BenchmarkFlood has a trusted sender open 200 connections a second, and counts
// how long each waits for its greeting and how long the machine's processors
// work: without a flood; with one of banned sources that comes to our packet
// program; with the same at a program that only drops its range, in place of ours.
// Rounds are interleaved. Work is that of the whole machine, softirq included,
// clients and the generator of the flood too, which are the same in both.
func BenchmarkFlood(b *testing.B) {
	s := newSite(b)
	s.writeRecipients(b)
	sender := s.Host("sender", "198.51.100.7")
	s.ours(b, "flood.toml")
	if _, err := s.weir.Cmd(patient(b), "allow", sender.Addr().String(), "--why", "for a figure"); err != nil {
		b.Fatal(err)
	}
	s.banFlood(b)
	f := flooding{site: s, sender: sender, gen: newFlood(s.edge.Addr()), program: generator(b, s.Lab), bare: newBareDrop(b)}
	ways := []*floodWay{
		{name: "no flood"},
		{name: "the flood at our program", to: atOurs},
		{name: "the flood at a bare drop in place of ours", to: atBare},
	}
	for round := range rounds + 1 {
		for _, w := range ways {
			if m := f.round(b, w); round > 0 { // the first one fills caches
				w.all = append(w.all, m)
			}
		}
	}
	b.Logf("%s; XDP native on veth, %d bans; a trusted sender opens %d connections a second; rounds of %v, %d each, interleaved: least (middle, most)",
		machine(), floodSources, visitRate, floodLength, rounds)
	for _, w := range ways {
		b.Log(w)
		results.add("greeting of a trusted sender, "+w.name, fmt.Sprintf("p50 %v µs, p99 %v µs", w.p50(), w.p99()), "none",
			fmt.Sprintf("%v s of processor a second", w.work()))
	}
	b.ReportMetric(ways[0].p99().middle, "µs-p99-quiet")
	b.ReportMetric(ways[1].p99().middle, "µs-p99-ours")
	b.ReportMetric(ways[2].p99().middle, "µs-p99-bare")
	b.ReportMetric(ways[1].work().least-ways[2].work().least, "s/s-over-bare")
	b.ReportMetric(0, "ns/op")
}

const floodLength = 4 * time.Second

// floodTo is where the frames of a round go.
type floodTo int

const (
	none floodTo = iota
	atOurs
	atBare
)

// floodWay is one of the kinds of rounds, and what came of them.
type floodWay struct {
	name string
	to   floodTo
	all  []floodMeasure
}

type floodMeasure struct {
	yield
	work, softirq, edge float64 // seconds of processor a second
	offered, seen       uint64
}

func (w *floodWay) spread(f func(floodMeasure) float64) spread { return spreadOf(w.all, f) }

func (w *floodWay) p50() spread {
	return w.spread(func(m floodMeasure) float64 { return float64(m.P50.Microseconds()) })
}

func (w *floodWay) p99() spread {
	return w.spread(func(m floodMeasure) float64 { return float64(m.P99.Microseconds()) })
}

func (w *floodWay) work() spread { return w.spread(func(m floodMeasure) float64 { return m.work }) }

func (w *floodWay) String() string {
	var frames strings.Builder
	var offered, seen uint64
	for _, m := range w.all {
		offered, seen = offered+m.offered, seen+m.seen
	}
	fmt.Fprintf(&frames, "%.0f frames a second offered, %d of %d seen", float64(offered)/floodLength.Seconds()/float64(len(w.all)), seen, offered)
	if w.to == none {
		frames.Reset()
		frames.WriteString("no frames on the link")
	}
	return fmt.Sprintf("%s: greeted within p50 %v, p99 %v µs; work %v s a second, of it softirq %v; the appliance's host alone %v; %s", w.name, w.p50(), w.p99(), w.work(),
		w.spread(func(m floodMeasure) float64 { return m.softirq }), w.spread(func(m floodMeasure) float64 { return m.edge }), &frames)
}

// flooding is BenchmarkFlood under way.
type flooding struct {
	*site
	sender  *lab.Host
	gen     *flood
	bare    *bareDrop
	program string // the load generator
}

// round has the sender at work for some seconds.
func (f *flooding) round(b *testing.B, w *floodWay) (m floodMeasure) {
	b.Helper()
	if w.to == atBare {
		defer f.swap(b)()
	}
	seen := f.seen(b, w.to)
	quiet(b, f.edge)
	edge, then, began := cpu(b, f.edge), busyNow(), time.Now()
	var made sync.WaitGroup
	var wrong error
	if w.to != none {
		made.Go(func() { m.offered, wrong = f.gen.run(f.edge, floodLength) })
	}
	y, err := try(b.Context(), f.sender, f.program, load{Target: smtpPort(f.edge), Sources: netip.PrefixFrom(f.sender.Addr(), 32), Rate: visitRate, For: floodLength})
	made.Wait()
	if wrong != nil || err != nil {
		b.Fatalf("%s: %v, %v", w.name, wrong, err)
	}
	now, took := busyNow(), time.Since(began).Seconds()
	m.yield, m.edge = y, (cpu(b, f.edge)-edge).Seconds()/took
	m.work, m.softirq = float64(now.work-then.work)/100/took, float64(now.softirq-then.softirq)/100/took
	if w.to == atOurs || w.to == atBare {
		f.Eventually(5*time.Second, "the frames that were offered are counted", func() bool {
			now := f.seen(b, w.to) - seen
			settled := now == m.seen || now == m.offered
			m.seen = now
			return settled
		})
	}
	return m
}

// seen is how many frames of the flood the program that stands there has dropped.
func (f *flooding) seen(b *testing.B, to floodTo) (n uint64) {
	b.Helper()
	switch to {
	case atOurs:
		return f.xdp(b).Counters["banned"]
	case atBare:
		return f.bare.count(b)
	}
	return 0
}

// xdp is what weir status says of the packet program.
func (s *site) xdp(b *testing.B) guard.EngineStatus {
	b.Helper()
	var st struct{ Guard guard.Status }
	if s.status(b, &st); len(st.Guard.Engines) != 1 {
		b.Fatalf("%d engines run, not one", len(st.Guard.Engines))
	}
	return st.Guard.Engines[0]
}

// banFlood bans the sources of the flood, and waits until the kernel has them.
func (s *site) banFlood(b *testing.B) {
	b.Helper()
	var list strings.Builder
	for i := range uint32(floodSources) {
		fmt.Fprintln(&list, floodSource(i))
	}
	if _, err := s.weir.CmdInput(patient(b), list.String(), "ban", "-", "--why", "for a figure"); err != nil {
		b.Fatal(err)
	}
	s.banned(b)
}

func (s *site) banned(b *testing.B) {
	b.Helper()
	s.Eventually(patience, "the packet program has all bans", func() bool {
		e := s.xdp(b)
		return e.Working && e.Bans == floodSources
	})
}

// swap takes our program out of the kernel, puts a bare drop in its place, and
// returns how to undo it.
func (f *flooding) swap(b *testing.B) func() {
	b.Helper()
	if _, err := f.weir.Cmd(patient(b), "firewall", "off"); err != nil {
		b.Fatal(err)
	}
	detach := f.bare.attach(b, f.edge)
	return func() {
		detach()
		if _, err := f.weir.Cmd(patient(b), "firewall", "on"); err != nil {
			b.Fatal(err)
		}
		f.banned(b)
	}
}
