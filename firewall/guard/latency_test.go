package guard

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

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

// BenchmarkBanText is `weir ban -` with 100,000 lines, until the answer: the
// first engine has them then.
func BenchmarkBanText(b *testing.B) {
	for _, name := range []string{"xdp", "nft"} {
		b.Run(name, func(b *testing.B) {
			newWorld(b)
			var e Engine
			if e = openXDP(b, pinDir(b)); name == "nft" {
				e = openNFT(b)
			}
			g := newRig(b, []Engine{e}, nil)
			orders := make([]firewall.Order, 100_000)
			for b.Loop() {
				for i := range orders {
					orders[i] = firewall.Order{Prefix: pfx(fmt.Sprintf("11.%d.%d.%d/32", i>>16, i>>8&255, i&255)), For: time.Hour}
				}
				if _, wrong := g.s.ban(context.Background(), orders); wrong != nil {
					b.Fatal(wrong)
				}
			}
		})
	}
}
