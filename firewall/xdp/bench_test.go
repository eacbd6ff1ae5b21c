package xdp

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
)

// The tables that the benchmarks run with.
const (
	benchAllow    = 1024
	benchPrefixes = 1024
	repeat        = 1 << 17 // runs in a call of the kernel
	crowd         = 1 << 17 // sources; beyond what the caches hold of the tables
)

// announce prints once what the figures were taken on.
func announce(b *testing.B, bans int) {
	b.Helper()
	var u unix.Utsname
	_ = unix.Uname(&u)
	b.Logf("kernel %s, %d processors, %s; %d bans, half IPv4 /32 and half IPv6 /64; %d prefixes, %d allow entries; by test run",
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), runtime.GOARCH, bans, benchPrefixes, benchAllow)
}

// BenchmarkProgram measures one packet through the program. "hot" is one source
// over and over: the best case, never the headline. "random" is a crowd of
// sources from everywhere, so that table look-ups miss the processor's caches;
// its figure includes what an empty program costs the same crowd, which is
// measured beside it.
func BenchmarkProgram(b *testing.B) {
	b.Run("empty/hot", func(b *testing.B) { hot(b, empty(b), synFrame(netip.MustParseAddr("203.0.113.1"), 25)) })
	b.Run("empty/random", func(b *testing.B) { random(b, empty(b), cleanFrames(4)) })
	for _, n := range []int{0, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("bans=%d", n), func(b *testing.B) {
			t, banned := benchTable(b, n)
			prog := t.obj.Mailweir
			b.Run("clean4/hot", func(b *testing.B) { hot(b, prog, cleanFrames(4)[0]) })
			b.Run("clean4/random", func(b *testing.B) { random(b, prog, cleanFrames(4)) })
			b.Run("clean6/hot", func(b *testing.B) { hot(b, prog, cleanFrames(6)[0]) })
			b.Run("clean6/random", func(b *testing.B) { random(b, prog, cleanFrames(6)) })
			if n > 0 {
				b.Run("banned4/hot", func(b *testing.B) { hot(b, prog, bannedFrames(banned, 4)[0]) })
				b.Run("banned4/random", func(b *testing.B) { random(b, prog, bannedFrames(banned, 4)) })
				b.Run("banned6/hot", func(b *testing.B) { hot(b, prog, bannedFrames(banned, 6)[0]) })
				b.Run("banned6/random", func(b *testing.B) { random(b, prog, bannedFrames(banned, 6)) })
			}
			announce(b, n)
		})
	}
}

// hot lets the kernel repeat one packet.
func hot(b *testing.B, prog *ebpf.Program, frame []byte) {
	var total time.Duration
	for b.Loop() {
		_, each, err := prog.Benchmark(frame, repeat, nil)
		if err != nil {
			b.Fatal(err)
		}
		total += each
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/packet")
	b.ReportMetric(0, "ns/op")
}

// random gives the packet another source of a crowd at every run.
func random(b *testing.B, prog *ebpf.Program, frames [][]byte) {
	hot(b, walker(b, prog, frames), frames[0])
}

// empty is a program that passes everything.
func empty(b *testing.B) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

func benchTable(b *testing.B, n int) (*Table, []firewall.Ban) {
	b.Helper()
	t, err := Open(Options{PinDir: enginetest.PinDir(b), MaxBans: max(1, n)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { t.Close() })
	r := rand.New(rand.NewPCG(1, 2))
	rules := firewall.Rules{Ports: []uint16{25}}
	for range benchAllow {
		rules.Allow = append(rules.Allow, netip.PrefixFrom(randomAddr(r, 4), 32))
	}
	ctx := context.Background()
	if err := t.Configure(ctx, rules); err != nil {
		b.Fatal(err)
	}
	bans := randomBans(n)
	all := bans
	for range min(n, benchPrefixes) {
		p := netip.PrefixFrom(randomAddr(r, 4), 24).Masked()
		all = append(all, firewall.Ban{Prefix: p, Until: time.Now().Add(time.Hour)})
	}
	if err := t.Replace(ctx, slices.Values(all)); err != nil {
		b.Fatal(err)
	}
	return t, bans
}

// randomAddr is from the whole unicast space.
func randomAddr(r *rand.Rand, family int) netip.Addr {
	for {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, r.Uint32())))
		if family == 6 {
			b := binary.BigEndian.AppendUint64(nil, r.Uint64()>>3|1<<61) // 2000::/3
			a = netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, r.Uint64())))
		}
		if a.IsGlobalUnicast() && (family == 6 || a.As4()[0] != 0 && a.As4()[0] < 224) {
			return a
		}
	}
}

func randomBans(n int) []firewall.Ban {
	r := rand.New(rand.NewPCG(3, 4))
	list := make([]firewall.Ban, n)
	until := time.Now().Add(time.Hour)
	for i := range list {
		p := netip.PrefixFrom(randomAddr(r, 4), 32)
		if i%2 == 1 {
			p = netip.PrefixFrom(randomAddr(r, 6), 64).Masked()
		}
		list[i] = firewall.Ban{Prefix: p, Until: until}
	}
	return list
}

func cleanFrames(family int) [][]byte {
	r := rand.New(rand.NewPCG(5, uint64(family)))
	frames := make([][]byte, crowd)
	for i := range frames {
		frames[i] = synFrame(randomAddr(r, family), 25)
	}
	return frames
}

func bannedFrames(bans []firewall.Ban, family int) [][]byte {
	r := rand.New(rand.NewPCG(7, uint64(family)))
	frames := make([][]byte, 0, crowd)
	for len(frames) < crowd {
		p := bans[r.IntN(len(bans))].Prefix
		if p.Addr().Is4() == (family == 4) {
			frames = append(frames, synFrame(p.Addr(), 25))
		}
	}
	return frames
}

// BenchmarkReplace fills an empty table.
func BenchmarkReplace(b *testing.B) {
	const n = 1_000_000
	bans := randomBans(n)
	ctx := context.Background()
	t, err := Open(Options{PinDir: enginetest.PinDir(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	var none iter.Seq[firewall.Ban] = func(func(firewall.Ban) bool) {}
	for _, c := range []struct {
		name  string
		first iter.Seq[firewall.Ban]
	}{{"into an empty table", none}, {"over the same bans", slices.Values(bans)}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				err := t.Replace(ctx, c.first)
				b.StartTimer()
				if err != nil {
					b.Fatal(err)
				}
				if err := t.Replace(ctx, slices.Values(bans)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/ban")
			announce(b, n)
		})
	}
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			if s, err := t.Status(ctx); err != nil || s.Bans < n*9/10 {
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
}
