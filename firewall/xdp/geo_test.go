package xdp

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/geo"
)

// realWorld is the database that comes with the program, compiled.
func realWorld(t testing.TB) *geo.Tables {
	t.Helper()
	w, err := compileReal()
	if errors.Is(err, geo.ErrNoDatabase) {
		t.Skip("geoip and geoip6 of tor-geoipdb are not installed (scripts/deps does)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var compileReal = sync.OnceValues(func() (*geo.Tables, error) {
	db, err := geo.Open("", "")
	if err != nil {
		return nil, err
	}
	return db.Compile(nil)
})

func placesTable(t testing.TB) *Table {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads programs into the kernel")
	}
	table, err := Open(Options{PinDir: enginetest.PinDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return table
}

func rulesFor(t testing.TB, w *geo.Tables, deny ...string) firewall.Rules {
	t.Helper()
	rules := firewall.Rules{Ports: []uint16{25}, World: w}
	for _, s := range deny {
		r, err := geo.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules.Deny = append(rules.Deny, r)
	}
	return rules
}

func (t *Table) configureOrFail(tb testing.TB, rules firewall.Rules) {
	tb.Helper()
	if err := t.Configure(context.Background(), rules); err != nil {
		tb.Fatal(err)
	}
}

// R-BW-11: the packet program says of every boundary of the real database, and
// of the addresses before and behind it, what the tables say.
func TestProgramKnowsTheWorld(t *testing.T) {
	if testing.Short() {
		t.Skip("all of the real database in one goroutine: -short (make race) leaves that to make test")
	}
	w := realWorld(t)
	table := placesTable(t)
	table.configureOrFail(t, rulesFor(t, w))
	n := 0
	for a := range w.AtBoundaries() {
		got, err := kindOf(table.obj.MailweirGeo, table.slot(), a)
		if err != nil {
			t.Fatal(err)
		}
		if got != w.Lookup(a) {
			t.Fatalf("%v is of kind %#x, not %#x", a, got, w.Lookup(a))
		}
		n++
	}
	if n < 1_000_000 {
		t.Errorf("looked %d addresses up only", n)
	}
}

// What was prepared is what Configure puts in force, and nothing of it is left.
func TestPreparedWorld(t *testing.T) {
	w, other := realWorld(t), new(geo.Tables)
	table := placesTable(t)
	if err := errors.Join(table.Prepare(other), table.Prepare(w)); err != nil {
		t.Fatal(err)
	}
	ready := table.ahead.m
	if ready == nil || table.ahead.world != w {
		t.Fatal("nothing is prepared")
	}
	table.configureOrFail(t, rulesFor(t, w))
	var m *ebpf.Map
	if err := table.obj.Geo.Lookup(table.slot(), &m); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := probeWorld(specOf(t), m, w); err != nil {
		t.Error(err)
	}
	if table.ahead.m != nil || ready.FD() >= 0 {
		t.Error("the prepared world was not taken")
	}
	if err := table.Prepare(w); err != nil || table.ahead.m != nil {
		t.Errorf("the world in force is prepared again: %v", err)
	}
}

// What got into the kernel wrong is not put in force.
func TestWrongWorldIsRefused(t *testing.T) {
	w := realWorld(t)
	table := placesTable(t)
	table.configureOrFail(t, rulesFor(t, w, "NL"))
	before := table.word()
	broken := worldOf(w)
	clear(broken.Index6[:])
	m, err := ebpf.NewMap(specOf(t).Maps[bpf.FilterMapGeo].InnerMap)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Put(uint32(0), broken); err != nil {
		t.Fatal(err)
	}
	if err := probeWorld(specOf(t), m, w); err == nil {
		t.Error("the probes found nothing wrong")
	}
	if table.word() != before {
		t.Error("it is in force")
	}
}

func specOf(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.LoadFilter()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// verdictOf is what becomes of a SYN.
func (t *Table) verdictOf(tb testing.TB, a netip.Addr) uint32 {
	tb.Helper()
	verdict, err := t.obj.Mailweir.Run(&ebpf.RunOptions{Data: synFrame(a, 25)})
	if err != nil {
		tb.Fatal(err)
	}
	return verdict
}

// sources are one address of each country of a world, IPv4 and IPv6.
func sources(w *geo.Tables) map[string][]netip.Addr {
	found := make(map[string][]netip.Addr)
	for a := range w.AtBoundaries() {
		c := w.Lookup(a).Class().String()
		if c == "" || !a.IsGlobalUnicast() {
			continue
		}
		if list := found[c]; len(list) == 0 || len(list) == 1 && list[0].Is4() != a.Is4() {
			found[c] = append(list, a)
		}
	}
	return found
}

// 250 countries are switched while packets of all of them come: nobody is judged
// by the rule of another. One whose rule does not change is never judged
// otherwise; of the others, each packet is counted for its own country, and as
// denied when it was dropped; and whoever comes after a switch meets the new rule.
func TestSwitchUnderLoad(t *testing.T) {
	w := realWorld(t)
	table := placesTable(t)
	from := sources(w)
	switched := codes(from, "NL")
	if len(switched) < 245 {
		t.Fatalf("%d countries only", len(switched))
	}
	table.configureOrFail(t, rulesFor(t, w))
	stop := make(chan struct{})
	var load sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); load.Wait() })
	t.Cleanup(end) // before the table is closed, whatever fails
	for _, a := range from["NL"] {
		load.Go(func() {
			for !over(stop) {
				if v, err := table.obj.Mailweir.Run(&ebpf.RunOptions{Data: synFrame(a, 25)}); err != nil || v != xdpPass {
					t.Errorf("%v, of a country that nothing was said about: verdict %d, %v", a, v, err)
					return
				}
			}
		})
	}
	came := make(map[string]firewall.Place)
	load.Go(func() {
		for !over(stop) {
			for _, c := range switched {
				for _, a := range from[c] {
					v, err := table.obj.Mailweir.Run(&ebpf.RunOptions{Data: synFrame(a, 25)})
					if err != nil {
						t.Error(err)
						return
					}
					count(came, c, v)
				}
			}
		}
	})
	after := make(map[string]firewall.Place)
	var slowest time.Duration
	for range 5 {
		for _, deny := range [][]string{switched, nil} {
			rules := rulesFor(t, w, deny...).Deny
			start := time.Now()
			if err := table.deny(w, table.slot(), rules); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, time.Since(start))
			want := uint32(xdpPass)
			if deny != nil {
				want = xdpDrop
			}
			for _, c := range switched {
				for _, a := range from[c] {
					v := table.verdictOf(t, a)
					if count(after, c, v); v != want {
						t.Fatalf("%v of %s: verdict %d, not %d", a, c, v, want)
					}
				}
			}
		}
	}
	end()
	t.Logf("the slowest of ten switches of %d countries took %v, with packets beside it", len(switched), slowest)
	counted, err := table.readPlaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range switched {
		want := firewall.Place{Seen: came[c].Seen + after[c].Seen, Denied: came[c].Denied + after[c].Denied}
		if counted[c] != want {
			t.Errorf("%s was counted %+v, of packets there were %+v", c, counted[c], want)
		}
	}
}

func over(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// count counts a packet as the program should.
func count(places map[string]firewall.Place, country string, verdict uint32) {
	p := places[country]
	if p.Seen++; verdict == xdpDrop {
		p.Denied++
	}
	places[country] = p
}

// codes are those that a rule can name, but one.
func codes(from map[string][]netip.Addr, but string) (list []string) {
	for c := range from {
		if _, err := geo.ParseRule(c); err == nil && c != but {
			list = append(list, c)
		}
	}
	slices.Sort(list)
	return list
}

// A world is swapped while packets come: who is denied in both is denied at
// every moment, whichever slot and number his network has.
func TestSwapLeavesNoGap(t *testing.T) {
	worlds := enginetest.Worlds(t)
	table := placesTable(t)
	deny := []string{"AS64500", "DE"}
	table.configureOrFail(t, rulesFor(t, worlds[0], deny...))
	stop := make(chan struct{})
	var load sync.WaitGroup
	for _, s := range []string{"192.0.2.7", "198.51.100.7", "2001:db8:1::7"} {
		a := netip.MustParseAddr(s)
		load.Go(func() {
			for !over(stop) {
				if v, err := table.obj.Mailweir.Run(&ebpf.RunOptions{Data: synFrame(a, 25)}); err != nil || v != xdpDrop {
					t.Errorf("%v got through: verdict %d, %v", a, v, err)
					return
				}
			}
		})
	}
	swaps := 20
	if testing.Short() {
		swaps = 4 // the detector slows laying a world out, not what could race
	}
	for i := range swaps {
		table.configureOrFail(t, rulesFor(t, worlds[(i+1)%2], deny...))
	}
	close(stop)
	load.Wait()
	n, err := table.readPlaces()
	if err != nil {
		t.Fatal(err)
	}
	if as := n["AS64500"]; as.Denied == 0 || as.Denied != as.Seen {
		t.Errorf("AS64500 was counted %+v over all swaps", as)
	}
}

// The next process finds the world and the rules that are in force, and takes
// them over.
func TestWorldOutlivesItsProcess(t *testing.T) {
	worlds := enginetest.Worlds(t)
	dir := enginetest.PinDir(t)
	w := enginetest.NewWorld(t)
	rules := rulesFor(t, worlds[0], "DE")
	rules.Interfaces = []string{enginetest.Interface}
	a := netip.MustParseAddr("198.51.100.7")
	for i, next := range []firewall.Rules{rules, rulesFor(t, worlds[1], "DE")} {
		next.Interfaces = rules.Interfaces
		err := w.Inside(func() error {
			table, err := Open(Options{PinDir: dir})
			if err != nil {
				return err
			}
			defer table.Close()
			if i > 0 {
				if v := table.verdictOf(t, a); v != xdpDrop {
					t.Errorf("before anything was configured: verdict %d", v)
				}
			}
			ctx := context.Background()
			if err := errors.Join(table.Configure(ctx, next), table.Replace(ctx, slices.Values([]firewall.Ban(nil)))); err != nil {
				return err
			}
			if v := table.verdictOf(t, a); v != xdpDrop {
				t.Errorf("process %d: verdict %d", i, v)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Inside(func() error { return Remove(context.Background(), dir) }); err != nil {
		t.Fatal(err)
	}
}

// announceWorld says what was measured on.
func announceWorld(b *testing.B, w *geo.Tables) {
	b.Helper()
	b.Logf("%v: %d runs in split /24s, %d runs of IPv6, %d in split /64s", w.From[0].Source, len(w.Split4), len(w.Runs6), len(w.Deep6))
}

// BenchmarkSwitch denies 250 countries and admits them again, and swaps the world,
// while packets from the whole address space go through the program.
func BenchmarkSwitch(b *testing.B) {
	w := realWorld(b)
	table := placesTable(b)
	table.configureOrFail(b, rulesFor(b, w))
	from := sources(w)
	all := rulesFor(b, w, codes(from, "")...).Deny
	walking := walker(b, table.obj.Mailweir, draw{4, 0, 1 << 31})
	stop := make(chan struct{})
	var packets atomic.Int64
	var load sync.WaitGroup
	load.Go(func() {
		const some = 1000
		for !over(stop) {
			if _, _, err := walking.Benchmark(synFrame(source4(0), 25), some, nil); err == nil {
				packets.Add(some)
			}
		}
	})
	b.Run("countries", func(b *testing.B) {
		before := packets.Load()
		var slowest time.Duration
		for b.Loop() {
			for _, deny := range [][]geo.Rule{all, nil} {
				start := time.Now()
				if err := table.deny(w, table.slot(), deny); err != nil {
					b.Fatal(err)
				}
				slowest = max(slowest, time.Since(start))
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/2/1000, "ms/switch")
		b.ReportMetric(float64(slowest.Microseconds())/1000, "ms-slowest")
		b.ReportMetric(float64(packets.Load()-before)/b.Elapsed().Seconds()/1e6, "Mpackets/s-beside")
		b.ReportMetric(float64(len(all)), "countries")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("world", func(b *testing.B) {
		for b.Loop() {
			again := *w
			table.configureOrFail(b, rulesFor(b, &again))
		}
		b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/swap")
		b.ReportMetric(0, "ns/op")
	})
	close(stop)
	load.Wait()
	announceWorld(b, w)
}

// BenchmarkPreparedWorld puts one in force that the kernel has already. So long
// new bans wait; not while it is prepared.
func BenchmarkPreparedWorld(b *testing.B) {
	w := realWorld(b)
	table := placesTable(b)
	table.configureOrFail(b, rulesFor(b, w))
	var prepare, configure time.Duration
	for b.Loop() {
		again, start := *w, time.Now()
		if err := table.Prepare(&again); err != nil {
			b.Fatal(err)
		}
		prepared := time.Now()
		table.configureOrFail(b, rulesFor(b, &again))
		prepare += prepared.Sub(start)
		configure += time.Since(prepared)
	}
	b.ReportMetric(prepare.Seconds()*1000/float64(b.N), "ms/prepare")
	b.ReportMetric(configure.Seconds()*1000/float64(b.N), "ms/configure")
	b.ReportMetric(0, "ns/op")
	announceWorld(b, w)
}
