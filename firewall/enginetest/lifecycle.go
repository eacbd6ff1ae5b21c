package enginetest

import (
	"context"
	"time"
)

// R-BX-18: kill -9 leaves the drops in force, and the next process takes over
// without a gap.
func testKill(b *bench) {
	b.close()
	b.must("start anew", b.Inside(func() error { return b.engine.Remove(b.dir) }))
	h := b.hold(bans(time.Hour, "192.0.2.7/32", "2001:db8::/64"))
	s := b.Send("192.0.2.7", Mail, Shape{})
	b.eventually("a hundred SYNs before the kill", func() bool { return s.Sent.Load() >= 100 })
	h.kill()
	killed := s.Sent.Load()
	b.eventually("a hundred SYNs after it", func() bool { return s.Sent.Load() >= killed+100 })
	for range 2 {
		b.open(0)
		b.configure()
		if _, found := b.hits("192.0.2.7/32"); !found {
			b.t.Error("the ban was not taken over")
		}
		b.replace(bans(time.Hour, "192.0.2.7/32", "2001:db8::/64"))
		b.close()
	}
	b.open(0)
	b.configure()
	s.Stop(b.World)
	if n := s.Answered.Load(); n != 0 {
		b.t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
	if n, _ := b.hits("192.0.2.7/32"); n.Packets < uint64(killed) {
		b.t.Errorf("the ban has %d hits, of %d SYNs before the kill alone", n.Packets, killed)
	}
	b.t.Logf("%d SYNs, none answered", s.Sent.Load())
	b.dropped("2001:db8::7", "2001:db8::/64")
}

func (b *bench) intact() error {
	return b.Inside(func() error { return b.now.Intact(context.Background()) })
}

func testDamage(b *bench) {
	list := bans(time.Hour, "192.0.2.7/32", "2001:db8::/64")
	b.replace(list)
	b.must("intact", b.intact())
	b.must("damage it", b.Inside(func() error { return b.engine.Damage(b.dir) }))
	b.Connects("192.0.2.7", Mail)
	if err := b.intact(); err == nil {
		b.t.Fatal("Intact noticed nothing")
	} else {
		b.t.Log(err)
	}
	if len(b.status().Problems) == 0 {
		b.t.Error("Status names no problem")
	}
	b.configure()
	b.replace(list)
	b.must("intact again", b.intact())
	b.dropped("192.0.2.7", "192.0.2.7/32")
	b.dropped("2001:db8::7", "2001:db8::/64")
}

func (b *bench) remove() error {
	return b.Inside(func() error { return b.now.Remove(context.Background()) })
}

func testRemove(b *bench) {
	b.ban(time.Hour, "192.0.2.7/32")
	b.dropped("192.0.2.7", "192.0.2.7/32")
	b.must("remove", b.remove())
	b.Connects("192.0.2.7", Mail)
	b.must("remove again", b.remove())
	if b.intact() == nil {
		b.t.Error("Intact finds nothing missing")
	}
	b.configure()
	b.Connects("192.0.2.7", Mail)
	b.ban(time.Hour, "192.0.2.7/32")
	b.dropped("192.0.2.7", "192.0.2.7/32")
}

// `weir firewall off` has no Table, and somebody may hold one.
func testRemoveBlind(b *bench) {
	b.ban(time.Hour, "192.0.2.7/32")
	b.must("remove", b.Inside(func() error { return b.engine.Remove(b.dir) }))
	b.Connects("192.0.2.7", Mail)
	b.must("remove again", b.Inside(func() error { return b.engine.Remove(b.dir) }))
	if b.intact() == nil {
		b.t.Error("Intact finds nothing missing")
	}
	b.configure()
	b.replace(bans(time.Hour, "192.0.2.7/32"))
	b.dropped("192.0.2.7", "192.0.2.7/32")
}
