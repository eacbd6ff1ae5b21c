package firewall

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
)

// fill makes n bans of IPv4 addresses and, one for ten, of IPv6 /64.
func fill(b testing.TB, l *Ledger, n int) {
	for i := range n {
		l.Convict(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), Harvest, 1)
		if i%10 == 0 {
			l.Convict(netip.AddrFrom16([16]byte{0x20, 1, 4: byte(i >> 16), 5: byte(i >> 8), 6: byte(i)}), Harvest, 1)
		}
	}
	if err := l.Sync(); err != nil {
		b.Fatal(err)
	}
}

// How long a start takes with so many bans, from a log and from a snapshot, and
// what they take in memory.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, from := range []string{"log", "snapshot"} {
			b.Run(fmt.Sprintf("%d from a %s", n, from), func(b *testing.B) {
				dir, c := b.TempDir(), newClock()
				l, _, err := OpenLedger(dir, Terms{}, c.now)
				if err != nil {
					b.Fatal(err)
				}
				fill(b, l, n)
				if l.store.stale = from == "snapshot"; l.store.stale {
					l.Sync()
				}
				l.Close()
				for b.Loop() {
					l, rec, err := OpenLedger(dir, Terms{}, c.now)
					if err != nil || rec.Standing < n {
						b.Fatal(rec, err)
					}
					l.Close()
				}
			})
		}
	}
}

func BenchmarkConvict(b *testing.B) {
	c := newClock()
	l := openLedger(b, b.TempDir(), c)
	i := 0
	for b.Loop() {
		l.Convict(netip.AddrFrom4([4]byte{byte(11 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)}), Harvest, 1)
		i++
	}
}

// Memory of a ledger with ten million bans; it takes long, so it has to be
// asked for: MAILWEIR_BENCH_LARGE=1.
func BenchmarkTenMillion(b *testing.B) {
	if os.Getenv("MAILWEIR_BENCH_LARGE") == "" {
		b.Skip("set MAILWEIR_BENCH_LARGE=1")
	}
	for b.Loop() {
		l := openLedger(b, b.TempDir(), newClock())
		start := time.Now()
		for i := range 10_000_000 {
			l.v4.put(record{prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(11 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)}), 32), until: 1 << 31, reason: Harvest})
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/fill")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB")
		runtime.KeepAlive(l)
	}
}
