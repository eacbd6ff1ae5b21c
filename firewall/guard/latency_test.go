package guard

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// BenchmarkVerdictToDrop is the way of a new ban with the real engines: from
// the call in the mail process until guard has answered, at which time the XDP
// table drops the source. p50 and p99 beside the mean; late is how many had no
// answer within 50 ms, on a machine with other work.
func BenchmarkVerdictToDrop(b *testing.B) {
	w := newWorld(b)
	g := newRig(b, []Engine{openXDP(b, pinDir(b)), openNFT(b)}, nil)
	g.s.court.limit.SetLimit(1e9)
	c := g.client()
	l := w.listen(edge6)
	var took []time.Duration
	next, late := 0, 0
	for b.Loop() {
		b.StopTimer()
		next++
		ours := w.stranger(l, next)
		start := time.Now()
		b.StartTimer()
		r, err := c.Offend(context.Background(), ours, firewall.Harvest, 1)
		b.StopTimer()
		if err != nil {
			late++
		} else if r.Outcome != Banned {
			b.Fatal(r.Outcome)
		}
		took = append(took, time.Since(start))
		ours.Close()
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(late), "late")
}

// stranger visits from a /64 that was not seen before.
func (w *world) stranger(l *net.TCPListener, n int) *net.TCPConn {
	_, ours := w.visit(l, fmt.Sprintf("2001:db8:bad:%x::1", n&0xffff))
	return ours
}

// BenchmarkBanText is `weir ban -` with many lines, from the text until the
// answer, by the operator's socket: the first engine has them then, and the disk.
// Each round bans others. cpu-s is what the processors worked, the same on a
// machine that has other work.
func BenchmarkBanText(b *testing.B) {
	for _, name := range []string{"xdp", "nft"} {
		for _, n := range []int{100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/bans=%d", name, n), func(b *testing.B) {
				newWorld(b)
				var e Engine
				if e = openXDP(b, pinDir(b)); name == "nft" {
					e = openNFT(b)
				}
				g := newRig(b, []Engine{e}, nil)
				var worked time.Duration
				for round := byte(11); b.Loop(); round++ {
					b.StopTimer()
					var text strings.Builder
					for i := range n {
						fmt.Fprintf(&text, "%d.%d.%d.%d 1h\n", round, byte(i>>16), byte(i>>8), byte(i))
					}
					before := processorTime()
					b.StartTimer()
					c, err := g.op.BanText(context.Background(), strings.NewReader(text.String()), BanRequest{})
					if err != nil || c.Count != n {
						b.Fatal(c.Count, err)
					}
					worked += processorTime() - before
				}
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s")
				b.ReportMetric(worked.Seconds()/float64(b.N), "cpu-s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
