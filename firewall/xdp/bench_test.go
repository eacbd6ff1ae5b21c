package xdp

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
)

// The tables that the benchmarks run with. Of n bans of IPv4 there are n/10 of
// IPv6, by /64.
const (
	benchAllow    = 1024
	benchPrefixes = 16_000
	repeat        = 1 << 16 // runs in a call of the kernel
)

var benchSizes = []int{0, 1000, 1_000_000, 10_000_000}

// announce prints what the figures were taken on.
func announce(b *testing.B, bans int) {
	b.Helper()
	var u unix.Utsname
	_ = unix.Uname(&u)
	b.Logf("kernel %s, %d processors, %s; %d bans of IPv4 and %d of IPv6, %d prefixes, %d allow entries; by test run",
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), runtime.GOARCH, bans, bans/10, min(bans, benchPrefixes), benchAllow)
}

// BenchmarkProgram measures one packet through the program. "hot" is one source
// over and over: the best case, never the headline. "random" draws each source
// from a crowd: of clean ones the whole address space, of banned ones all that
// are banned. "whole" is clean with the world loaded and the limit of SYNs on, so
// that every stage of the program is gone through. ns/packet includes what a test run costs an empty program with the
// same draw; ns-over-empty does not.
func BenchmarkProgram(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("bans=%d", n), func(b *testing.B) {
			t := benchTable(b, n)
			empty := newProgram(b, asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()})
			for _, family := range []int{4, 6} {
				banned := n
				if family == 6 {
					banned = n / 10
				}
				measure(b, t.obj.Mailweir, empty, "clean", draw{family, uint32(n), 1 << 31})
				if n > 0 {
					measure(b, t.obj.Mailweir, empty, "banned", draw{family, 0, uint32(banned)})
				}
			}
			if err := t.Configure(b.Context(), wholeRules(b)); err != nil {
				b.Fatal(err)
			}
			for _, family := range []int{4, 6} {
				measure(b, t.obj.Mailweir, empty, "whole", draw{family, uint32(n), 1 << 31})
			}
			announce(b, n)
		})
	}
}

func measure(b *testing.B, prog, empty *ebpf.Program, name string, d draw) {
	frame := synFrame(d.first(), 25)
	b.Run(fmt.Sprintf("%s%d/hot", name, d.family), func(b *testing.B) { against(b, prog, empty, frame) })
	b.Run(fmt.Sprintf("%s%d/random", name, d.family), func(b *testing.B) {
		walking := walker(b, prog, d)
		if name == "banned" { // the first drop of a ban is stamped, once in its life
			if _, _, err := walking.Benchmark(frame, 3*int(d.count), nil); err != nil {
				b.Fatal(err)
			}
		}
		against(b, walking, walker(b, empty, d), frame)
	})
}

func (d draw) first() netip.Addr {
	if d.family == 4 {
		return source4(d.from)
	}
	return source6(d.from)
}

// against measures a program and an empty one in turns, and takes the least of
// each: on a machine that has other work the rest is that.
func against(b *testing.B, prog, empty *ebpf.Program, frame []byte) {
	least := map[*ebpf.Program]time.Duration{prog: time.Hour, empty: time.Hour}
	for b.Loop() {
		for p := range least {
			_, each, err := p.Benchmark(frame, repeat, nil)
			if err != nil {
				b.Fatal(err)
			}
			least[p] = min(least[p], each)
		}
	}
	b.ReportMetric(float64(least[prog].Nanoseconds()), "ns/packet")
	b.ReportMetric(float64((least[prog] - least[empty]).Nanoseconds()), "ns-over-empty")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkOthers measures what else the kernel has, each by the least program
// that can be made of it: no parsing, no port, no allow list. Beside them is
// xdp-filter, as Debian ships it.
func BenchmarkOthers(b *testing.B) {
	empty := newProgram(b, asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()})
	drop := newProgram(b, asm.Instructions{asm.Mov.Imm(asm.R0, xdpDrop), asm.Return()})
	b.Run("bare drop", func(b *testing.B) { against(b, drop, empty, synFrame(source4(0), 25)) })
	for _, n := range benchSizes[1:] {
		hash := newMap(b, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 16, MaxEntries: uint32(n), Flags: unix.BPF_F_NO_PREALLOC})
		fill(b, hash, n, func(key []byte, a [4]byte) []byte { return append(key, a[:]...) })
		b.Run(fmt.Sprintf("bans=%d/hash", n), func(b *testing.B) { others(b, hash, empty, n, 0) })
		if n > 1_000_000 {
			continue // a trie of so many takes minutes to fill, and so does a map that has a value for each processor
		}
		b.Run(fmt.Sprintf("bans=%d/xdp-filter", n), func(b *testing.B) { xdpFilter(b, empty, n) })
		trie := newMap(b, &ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 8, ValueSize: 16, MaxEntries: uint32(n), Flags: unix.BPF_F_NO_PREALLOC})
		fill(b, trie, n, func(key []byte, a [4]byte) []byte { return append(append(key, 32, 0, 0, 0), a[:]...) })
		b.Run(fmt.Sprintf("bans=%d/trie", n), func(b *testing.B) { others(b, trie, empty, n, 32) })
	}
}

func fill(b *testing.B, m *ebpf.Map, n int, key func([]byte, [4]byte) []byte) {
	b.Helper()
	const some = 4096
	for i := 0; i < n; i += some {
		count := min(some, n-i)
		keys := make([]byte, 0, count*int(m.KeySize()))
		for j := range count {
			keys = key(keys, source4(uint32(i+j)).As4())
		}
		k, v := slices.Collect(slices.Chunk(keys, int(m.KeySize()))), make([][]byte, count)
		for j := range v {
			v[j] = make([]byte, m.ValueSize())
			if err := m.Put(k[j], v[j]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// others looks the source up in m and drops what is there.
func others(b *testing.B, m *ebpf.Map, empty *ebpf.Program, n int, bits int32) {
	ins := append(asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}, packet(34)...)
	ins = append(ins, asm.LoadMem(asm.R1, asm.R2, 26, asm.Word), asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word), asm.Mov.Reg(asm.R2, asm.RFP))
	if bits == 0 {
		ins = append(ins, asm.Add.Imm(asm.R2, -4))
	} else {
		ins = append(ins, asm.StoreImm(asm.RFP, -8, int64(bits), asm.Word), asm.Add.Imm(asm.R2, -8))
	}
	prog := newProgram(b, append(ins,
		asm.LoadMapPtr(asm.R1, m.FD()), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R0, xdpDrop), asm.Return(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"), asm.Return(),
	))
	measure(b, prog, empty, "clean", draw{4, uint32(n), 1 << 31})
	measure(b, prog, empty, "banned", draw{4, 0, uint32(n)})
}

// benchRules have an allow list.
func benchRules() firewall.Rules {
	r := rand.New(rand.NewPCG(1, 2))
	rules := firewall.Rules{Ports: []uint16{25}}
	for range benchAllow {
		rules.Allow = append(rules.Allow, netip.PrefixFrom(source4(1<<31+r.Uint32()>>2), 32))
	}
	return rules
}

// wholeRules have the world and a limit of SYNs that no benchmark comes to.
func wholeRules(b *testing.B) firewall.Rules {
	b.Helper()
	rules := benchRules()
	rules.World, rules.SYNPerMinute = realWorld(b), math.MaxInt32
	return rules
}

func benchTable(b *testing.B, n int) *Table {
	b.Helper()
	t, err := Open(Options{PinDir: enginetest.PinDir(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { t.Close() })
	ctx := context.Background()
	if err := t.Configure(ctx, benchRules()); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := t.Replace(ctx, benchBans(n, min(n, benchPrefixes))); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bans written in %v", n+n/10, time.Since(start))
	return t
}

// benchBans are n sources of IPv4, a tenth of that of IPv6, and some prefixes:
// /24 where nobody draws a clean source from on purpose.
func benchBans(n, prefixes int) iter.Seq[firewall.Ban] {
	until := time.Now().Add(48 * time.Hour)
	return func(yield func(firewall.Ban) bool) {
		for i := range uint32(n) {
			if !yield(firewall.Ban{Prefix: netip.PrefixFrom(source4(i), 32), Until: until}) {
				return
			}
			if i%10 == 0 && !yield(firewall.Ban{Prefix: netip.PrefixFrom(source6(i/10), 64).Masked(), Until: until}) {
				return
			}
		}
		for i := range uint32(prefixes) {
			p := netip.PrefixFrom(source4(1<<31|i), 24).Masked()
			if i%2 == 1 {
				p = netip.PrefixFrom(source6(1<<31|i), 40).Masked()
			}
			if !yield(firewall.Ban{Prefix: p, Until: until}) {
				return
			}
		}
	}
}

// BenchmarkMemory says what the kernel keeps for ten million bans of IPv4, a
// million of IPv6 and the world, and what of this process is its own.
func BenchmarkMemory(b *testing.B) {
	const n = 10_000_000
	t := benchTable(b, n)
	if err := t.Configure(b.Context(), wholeRules(b)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.ReportMetric(float64(t.memlock(b))/1e6, "kernel-MB")
	}
	runtime.GC()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []string{"RssAnon", "RssFile", "RssShmem"} {
		m := regexp.MustCompile(kind + `:\s*(\d+) kB`).FindSubmatch(status)
		kb, _ := strconv.Atoi(string(m[1]))
		b.ReportMetric(float64(kb)/1e3, kind+"-MB")
	}
	announce(b, n)
}

// memlock adds up what the kernel says of our maps.
func (t *Table) memlock(b *testing.B) (sum uint64) {
	b.Helper()
	maps := []*ebpf.Map{
		t.obj.Cfg, t.obj.Ports, t.obj.Allow, t.obj.AllowHint, t.obj.Counters, t.obj.Ban4, t.obj.Ban6, t.obj.Firsts, t.obj.PrefixHint, t.obj.Prefix4, t.obj.Prefix6,
		t.obj.Hint4, t.obj.Hint6, t.obj.Geo, t.obj.ClassAction, t.obj.ClassCount, t.obj.Syn, t.obj.Syns, t.obj.Explain, t.obj.Samples, t.obj.Sampled,
	}
	if t.word()&cfgGeo != 0 {
		var world *ebpf.Map
		if err := t.obj.Geo.Lookup(t.slot(), &world); err != nil {
			b.Fatal(err)
		}
		defer world.Close()
		maps = append(maps, world)
	}
	for _, n := range []int{inBan4, inBan6} {
		maps = append(maps, t.tables[n].(*singles).table.Maps()...)
	}
	for _, m := range maps {
		info, err := m.Info()
		if err != nil {
			b.Fatal(err)
		}
		bytes, ok := info.Memlock()
		if !ok {
			b.Fatalf("the kernel does not say how large %s is", m)
		}
		sum += bytes
	}
	return sum
}

// BenchmarkReplace fills tables, asks them, and changes one ban of many.
func BenchmarkReplace(b *testing.B) {
	ctx := context.Background()
	for _, n := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("bans=%d", n), func(b *testing.B) {
			t := benchTable(b, n)
			per := func(b *testing.B) {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n+n/10), "ns/ban")
			}
			b.Run("over the same bans", func(b *testing.B) {
				for b.Loop() {
					if err := t.Replace(ctx, benchBans(n, 0)); err != nil {
						b.Fatal(err)
					}
				}
				per(b)
			})
			b.Run("status", func(b *testing.B) {
				for b.Loop() {
					if s, err := t.Status(ctx); err != nil || s.Bans < n {
						b.Fatal(s.Bans, err)
					}
				}
			})
			b.Run("one ban more, and out", func(b *testing.B) {
				one := []firewall.Ban{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Until: time.Now().Add(time.Hour)}}
				for b.Loop() {
					if err := t.Apply(ctx, one, nil); err != nil {
						b.Fatal(err)
					}
					if err := t.Apply(ctx, nil, one); err != nil {
						b.Fatal(err)
					}
				}
			})
			announce(b, n)
		})
	}
}

// The walker writes the sources that the tables are filled with: a crowd of the
// banned alone is dropped to the last packet.
func TestWalkerDrawsTheBanned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads programs into the kernel")
	}
	testing.Benchmark(func(b *testing.B) {
		table := benchTable(b, 1000)
		for _, d := range []draw{{4, 0, 1000}, {6, 0, 100}} {
			before, err := table.readCounters()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := walker(b, table.obj.Mailweir, d).Benchmark(synFrame(d.first(), 25), repeat, nil); err != nil {
				t.Fatal(err)
			}
			after, err := table.readCounters()
			if err != nil || after["banned"]-before["banned"] != repeat {
				t.Errorf("IPv%d: %d of %d dropped (%v)", d.family, after["banned"]-before["banned"], repeat, err)
			}
		}
	})
}
