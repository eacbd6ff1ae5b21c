package nft_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/nft"
)

// BenchmarkReplace fills a table that holds nothing, and one that holds all
// the bans already.
func BenchmarkReplace(b *testing.B) {
	const n = 1_000_000
	w := enginetest.NewWorld(b)
	table := open(b, w, nft.Options{})
	bans := many(n)
	replace := func(list []firewall.Ban) {
		do(b, w, "replace", func() error { return table.Replace(ctx, slices.Values(list)) })
	}
	for name, first := range map[string][]firewall.Ban{"into an empty table": nil, "over the same bans": bans} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				replace(first)
				b.StartTimer()
				replace(bans)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/ban")
			announce(b, n)
		})
	}
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			do(b, w, "status", func() error { _, err := table.Status(ctx); return err })
		}
	})
	b.Run("one ban more, and out", func(b *testing.B) {
		one := enginetest.Bans(time.Hour, "192.0.2.1/32")
		do(b, w, "apply", func() error {
			for b.Loop() {
				if err := table.Apply(ctx, one, nil); err != nil {
					return err
				}
				if err := table.Apply(ctx, nil, one); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// announce prints what the figures were taken on.
func announce(b *testing.B, bans int) {
	b.Helper()
	var u unix.Utsname
	_ = unix.Uname(&u)
	b.Logf("kernel %s, %d processors, %s; %d bans: half IPv4 /32, half IPv6 /64 and /128",
		unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), runtime.GOARCH, bans)
}
