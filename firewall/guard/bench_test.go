package guard

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// From an offence in the mail process to guard's answer, with an engine that
// costs nothing: what the socket, the proof, the ledger and its log add.
func BenchmarkOffence(b *testing.B) {
	w := newWorld(b)
	f := newFake()
	g := newRig(b, one(f), nil)
	c := g.client()
	_, ours := w.visit(w.listen(edge4), "203.0.113.7")
	b.Run("vetoed or banned", func(b *testing.B) {
		offend(b, c, ours)
		g.s.court.limit.SetLimit(1e9)
		for b.Loop() {
			if _, err := c.Offend(context.Background(), ours, firewall.Harvest, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("no TCP", func(b *testing.B) {
		fd := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))(b)
		defer unix.Close(fd)
		for b.Loop() {
			if _, err := c.offend(context.Background(), fd, request{reason: firewall.Harvest, ref: 1}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
