package xdp_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/xdp"
)

// The flood guard begins when many connections are opened, holds a network to
// four times what one source may, spares others and who is allowed, and ends
// when it has been calm for a while.
func TestFloodGuardComesAndGoes(t *testing.T) {
	w := enginetest.NewWorld(t)
	dir := enginetest.PinDir(t)
	var table *xdp.Table
	do := func(what string, f func() error) {
		t.Helper()
		if err := w.Inside(f); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("open", func() (err error) { table, err = xdp.Open(xdp.Options{PinDir: dir}); return err })
	t.Cleanup(func() { do("remove", func() error { return table.Remove(context.Background()) }); table.Close() })
	rules := firewall.Rules{
		Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}, SYNPerMinute: 5, FloodPerSecond: 3,
		Allow: []netip.Prefix{netip.MustParsePrefix("203.0.113.250/32")},
	}
	do("configure", func() error { return table.Configure(t.Context(), rules) })
	active := func() (on bool) {
		do("status", func() error {
			if err := table.Intact(t.Context()); err != nil {
				return err
			}
			s, err := table.Status(t.Context())
			on = s.Flood
			return err
		})
		return on
	}
	counted := func(reason string) (n uint64) {
		do("counters", func() error { c, err := table.Counters(t.Context()); n = c.Reasons[reason]; return err })
		return n
	}
	if active() {
		t.Fatal("active before anything came")
	}
	n := 0
	next := func(network string) string { n++; return fmt.Sprintf(network, n) }
	for end := time.Now().Add(20 * time.Second); !active(); {
		if time.Now().After(end) {
			t.Fatal("the flood is not seen")
		}
		w.Connects(next("192.0.2.%d"), enginetest.Mail)
	}
	n = 0
	for counted("flood") == 0 {
		if n > 100 {
			t.Fatal("a network may open any number")
		}
		src := next("203.0.113.%d")
		if n <= 20 {
			w.Connects(src, enginetest.Mail)
			continue
		}
		s := w.Send(src, enginetest.Mail, enginetest.Shape{})
		for end := time.Now().Add(20 * time.Second); s.Sent.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing is sent")
			}
		}
		s.Stop(w)
	}
	w.Connects("203.0.113.250", enginetest.Mail)
	w.Connects("198.51.100.1", enginetest.Mail)
	for end := time.Now().Add(20 * time.Second); active(); time.Sleep(50 * time.Millisecond) {
		if table.AgeFlood(time.Minute); time.Now().After(end) {
			t.Fatal("still active, long after")
		}
	}
	w.Connects(next("203.0.113.%d"), enginetest.Mail)
}

// openInside returns a world, a table in it, and what calls inside and must go well.
func openInside(t *testing.T) (w *enginetest.World, table *xdp.Table, do func(func() error)) {
	t.Helper()
	w = enginetest.NewWorld(t)
	dir := enginetest.PinDir(t)
	do = func(f func() error) {
		t.Helper()
		if err := w.Inside(f); err != nil {
			t.Fatal(err)
		}
	}
	do(func() (err error) { table, err = xdp.Open(xdp.Options{PinDir: dir}); return err })
	t.Cleanup(func() { do(func() error { return table.Remove(context.Background()) }); table.Close() })
	return w, table, do
}

// A program that is loaded anew counts from nothing, which is no flood.
func TestNoFloodAfterOffAndOn(t *testing.T) {
	w, table, do := openInside(t)
	rules := firewall.Rules{Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}, SYNPerMinute: 240, FloodPerSecond: 2000}
	looks := func() {
		t.Helper()
		before := table.FloodLooked()
		for end := time.Now().Add(20 * time.Second); table.FloodLooked() == before; time.Sleep(10 * time.Millisecond) {
			if do(func() error { return table.Intact(t.Context()) }); time.Now().After(end) {
				t.Fatal("nobody looks for a flood")
			}
		}
	}
	do(func() error { return table.Configure(t.Context(), rules) })
	for range 3 {
		w.Connects("192.0.2.7", enginetest.Mail)
	}
	looks()
	do(func() error { return table.Remove(t.Context()) })
	do(func() error { return table.Configure(t.Context(), rules) })
	looks()
	do(func() error {
		s, err := table.Status(t.Context())
		if s.Flood {
			t.Error("a flood of nobody")
		}
		return err
	})
}

// Samples of drops name the source, the port and the reason.
func TestSamplesOfDrops(t *testing.T) {
	w, table, do := openInside(t)
	do(func() error {
		return table.Configure(t.Context(), firewall.Rules{Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}})
	})
	do(func() error { return table.Replace(t.Context(), func(func(firewall.Ban) bool) {}) })
	do(func() error {
		return table.Apply(t.Context(), enginetest.Bans(time.Hour, "192.0.2.7/32", "2001:db8::/64"), nil)
	})
	do(func() error { _, err := table.Samples(t.Context()); return err }) // as guard does, before anything came
	for _, src := range []string{"192.0.2.7", "2001:db8::7"} {
		s := w.Send(src, enginetest.Mail, enginetest.Shape{})
		var seen []firewall.Sample
		want := firewall.Sample{Source: netip.MustParseAddr(src), Port: enginetest.Mail, Reason: "banned"}
		for end := time.Now().Add(20 * time.Second); !slices.Contains(seen, want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("samples %v, want %v", seen, want)
			}
			do(func() (err error) { seen, err = table.Samples(t.Context()); return err })
		}
		s.Stop(w)
	}
}
