package record

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"mailweir/smtp"
)

// attacked is what a guesser leaves: five unknown recipients.
func attacked(i int) smtp.Transaction {
	x := tx(start.Add(time.Duration(i)*time.Millisecond), fmt.Sprintf("203.0.%d.%d", i>>8&255, i&255), "a@sender.example", "u0@example.com")
	for j := 1; j < 5; j++ {
		r := x.Facts.Rcpts[0]
		r.To = fmt.Sprintf("u%d@example.com", i*5+j)
		x.Facts.Rcpts = append(x.Facts.Rcpts, r)
	}
	return x
}

// BenchmarkStore records transactions of five refused recipients through to
// SQLite, announced or not; bytes/record is what all files take, each.
func BenchmarkStore(b *testing.B) {
	for _, announce := range []bool{false, true} {
		b.Run(fmt.Sprintf("announce=%t", announce), func(b *testing.B) {
			dir := b.TempDir()
			f := begin(b, dir, nil)
			empty := folderSize(dir)
			b.SetParallelism(10) // 20 sessions on two cores
			n := 0
			if announce {
				var next atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						x := attacked(int(next.Add(1)))
						f.Announce(context.Background(), x)
						f.Record(x)
					}
				})
			} else {
				for b.Loop() {
					for f.queued.Load() > maxQueued/4 || len(f.in) > maxBatch {
						time.Sleep(100 * time.Microsecond) // a session has more to do than to record
					}
					f.Record(attacked(n))
					n++
				}
			}
			f.search(b, Query{Limit: 1})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			f.stop()
			b.ReportMetric(float64(folderSize(dir)-empty)/float64(b.N), "bytes/record")
			if d := f.count.dropped.Load(); d > 0 {
				b.Errorf("%d dropped", d)
			}
		})
	}
}

// BenchmarkRecord is what a session pays.
func BenchmarkRecord(b *testing.B) {
	f := begin(b, b.TempDir(), nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Record(attacked(i)) // most of it is the making
	}
}

// BenchmarkWhy asks for one address among many records.
func BenchmarkWhy(b *testing.B) {
	f := begin(b, b.TempDir(), nil)
	const n = 50_000
	for i := range n {
		for len(f.in) > maxBatch {
			time.Sleep(time.Millisecond)
		}
		f.Record(attacked(i))
	}
	if err := f.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.Why(context.Background(), "203.0.77.77", 10); err != nil {
			b.Fatal(err)
		}
	}
}
