package harvest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
)

// traffic is a day's mix of a busy edge: of a million sources most name one or
// two recipients that exist, one in twenty recipients is unknown.
type traffic struct {
	rng   *rand.Rand
	known []string
	wrong []string
}

func newTraffic() *traffic {
	t := &traffic{rng: rand.New(rand.NewPCG(1, 1))}
	for i := range 1 << 14 {
		t.known = append(t.known, fmt.Sprintf("user%d@example%d.com", i, i%50))
		t.wrong = append(t.wrong, fmt.Sprintf("nobody%d@example%d.com", i, i%50))
	}
	return t
}

func (t *traffic) event(i int) (time.Time, smtp.Source, smtp.Recipient) {
	n := t.rng.Uint32()
	src := smtp.Source{
		Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16 & 15), byte(n >> 8), byte(n)}), Tier: smtp.New,
		Session: ref.Ref(i/2 + 1),
	}
	r := smtp.Recipient{To: t.known[n>>8&(1<<14-1)], Oracle: smtp.Valid, Age: smtp.Cached}
	if t.rng.IntN(20) == 0 {
		r = smtp.Recipient{To: t.wrong[n>>8&(1<<14-1)], Oracle: smtp.Unknown}
	}
	return start.Add(time.Duration(i) * 50 * time.Millisecond), src, r
}

// BenchmarkEvents is events through the engine on one core, among a million
// sources (aim: a million a second).
func BenchmarkEvents(b *testing.B) {
	w, t := New(Default, Options{}), newTraffic()
	for i := range 1 << 20 {
		now, src, r := t.event(i)
		w.Recipient(now, src, r, false)
	}
	b.ReportAllocs()
	spent := processorTime()
	for i := 1 << 20; b.Loop(); i++ { // made in place: events that wait in memory would be measured with it
		now, src, r := t.event(i)
		w.Recipient(now, src, r, false)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((processorTime()-spent).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// processorTime is what the process used of all processors, the collector of
// garbage included: on a busy machine the clock tells little.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBytes is what a source costs when there are a million: of a day's
// traffic, and of a botnet in which each guesses twice (aim: 200 bytes).
func BenchmarkBytes(b *testing.B) {
	for name, guesses := range map[string]int{"traffic": 0, "botnet": 2} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(bytesOfASource(guesses), "bytes/source")
			}
		})
	}
}

func bytesOfASource(guesses int) float64 {
	t := newTraffic()
	before := heap()
	w := New(Default, Options{})
	for i := range 1 << 20 {
		now, src, r := t.event(i)
		src.Addr = netip.AddrFrom4([4]byte{byte(10 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)})
		for g := range max(1, guesses) {
			if guesses > 0 {
				r = smtp.Recipient{To: t.wrong[(i*7+g*1013)&(1<<14-1)], Oracle: smtp.Unknown}
			}
			w.Recipient(now, src, r, false)
		}
	}
	used := heap() - before
	n := w.Sources()
	runtime.KeepAlive(w)
	return float64(used) / float64(n)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
