package enginetest

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"mailweir/firewall"
)

// banCases are prefixes, a source inside, and one that is next to it outside.
var banCases = []struct{ prefix, inside, outside string }{
	{"192.0.2.7/32", "192.0.2.7", "192.0.2.6"},
	{"192.0.2.0/24", "192.0.2.255", "192.0.3.0"},
	{"172.16.0.0/13", "172.23.255.9", "172.24.0.9"},
	{"::ffff:192.0.2.8/128", "192.0.2.8", "192.0.2.9"},
	{"2001:db8::7/128", "2001:db8::7", "2001:db8::6"},
	{"2001:db8:0:1::/64", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"},
	{"2001:db8:0:ff00::/56", "2001:db8:0:ffaa::1", "2001:db8:1:0::1"},
	{"2001:db8:5::/48", "2001:db8:5:ffff::1", "2001:db8:6::1"},
	{"2001:db8:100::/41", "2001:db8:17f::1", "2001:db8:180::1"},
}

// R-BX-15, R-MC-01: a banned source hears nothing on the protected port, is
// free elsewhere, and is heard again after the ban.
func testBan(b *bench) {
	for _, c := range banCases {
		b.Connects(c.inside, Mail)
		b.ban(time.Hour, c.prefix)
		b.dropped(c.inside, c.prefix)
		b.Connects(c.inside, Other)
		b.Connects(c.outside, Mail)
		if n := b.status().Bans; n != 1 {
			b.t.Errorf("%s: status counts %d bans, not 1", c.prefix, n)
		}
		b.unban(c.prefix)
		b.Connects(c.inside, Mail)
		if _, found := b.hits(c.prefix); found {
			b.t.Errorf("%s: there are hits for what is not banned", c.prefix)
		}
	}
}

// R-BX-09: allow beats every ban; and a ban beats nothing once allow is gone.
func testAllow(b *bench) {
	b.ban(time.Hour, "192.0.2.0/24", "192.0.2.7/32", "2001:db8::/48")
	b.rules.Allow = []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/29"), netip.MustParsePrefix("192.0.2.7/32"), // one inside the other
		netip.MustParsePrefix("2001:db8:0:7::/64"), netip.MustParsePrefix("::ffff:192.0.2.16/128"),
	}
	b.configure()
	before := b.status().Counters["allowed"]
	for _, src := range []string{"192.0.2.7", "192.0.2.1", "192.0.2.16", "2001:db8:0:7::1"} {
		b.Connects(src, Mail)
	}
	if n := b.status().Counters["allowed"]; n < before+4 {
		b.t.Errorf("allowed: counted %d packets of 4 connections", n-before)
	}
	b.dropped("192.0.2.8", "192.0.2.0/24")
	b.dropped("2001:db8:0:8::1", "2001:db8::/48")
	b.rules.Allow = nil
	b.configure()
	b.dropped("192.0.2.7", "192.0.2.7/32")
}

// Rules are replaced as a whole: the new port is protected, the old one not.
func testPorts(b *bench) {
	b.ban(time.Hour, "192.0.2.7/32")
	b.dropped("192.0.2.7", "192.0.2.7/32")
	b.rules.Ports = []uint16{Other, Other, 65535}
	b.configure()
	b.Connects("192.0.2.7", Mail)
	before, _ := b.hits("192.0.2.7/32")
	b.Silent("192.0.2.7", Other, func() bool { h, _ := b.hits("192.0.2.7/32"); return h.Packets > before.Packets })
	b.rules.Ports = nil
	b.configure()
	b.Connects("192.0.2.7", Other)
}

// In observe what would be dropped is counted and passes.
func testObserve(b *bench) {
	b.rules.Observe = true
	b.configure()
	b.ban(time.Hour, "192.0.2.7/32", "2001:db8::/64")
	before := b.status().Counters
	b.Connects("192.0.2.7", Mail)
	b.Connects("2001:db8::7", Mail)
	after := b.status().Counters
	if n := after["observed"] - before["observed"]; n < 2 {
		b.t.Errorf("observed: counted %d packets of 2 connections", n)
	}
	if n := after["banned"] - before["banned"]; n != 0 {
		b.t.Errorf("banned: counted %d packets in observe", n)
	}
	if h, _ := b.hits("192.0.2.7/32"); h.Packets == 0 {
		b.t.Error("the ban has no hits")
	}
	b.rules.Observe = false
	b.configure()
	b.dropped("192.0.2.7", "192.0.2.7/32")
}

// R-BX-18: with nothing of ours alive a ban of two seconds ends by itself, not
// before its time and not long after.
func testExpiry(b *bench) {
	const length = 2 * time.Second
	start := time.Now()
	b.ban(length, "192.0.2.7/32", "192.0.3.0/24", "2001:db8::/64", "2001:db8:1::/40")
	b.ban(time.Hour, "192.0.2.8/32")
	b.close()
	for _, src := range []string{"192.0.2.7", "192.0.3.7", "2001:db8::7", "2001:db8:1::7"} {
		b.endsAt(src, start.Add(length))
	}
	b.open(0)
	b.configure()
	b.dropped("192.0.2.8", "192.0.2.8/32")
	if n := b.status().Bans; n != 1 {
		b.t.Errorf("status counts %d bans, not the one that stands", n)
	}
}

// endsAt tries src again and again, and fails when it gets through before end.
func (b *bench) endsAt(src string, end time.Time) {
	b.t.Helper()
	a := netip.MustParseAddr(src)
	for deadline := end.Add(patience); ; {
		// A try shorter than the kernel's first repetition: each is one SYN.
		ctx, cancel := context.WithTimeout(b.t.Context(), 100*time.Millisecond)
		tried := time.Now()
		err := b.connect(ctx, a, Mail)
		cancel()
		switch {
		case err == nil && time.Now().Before(end.Add(-20*time.Millisecond)):
			b.t.Fatalf("%s got through %s before its ban ended", src, time.Until(end))
		case err == nil:
			b.t.Logf("%s got through within %s of the end", src, max(0, tried.Sub(end)))
			return
		case tried.After(deadline):
			b.t.Fatalf("%s is still dropped %s after the end of its ban", src, time.Since(end))
		}
	}
}

// A short ban inside a long one ends without ending the long one, and the
// other way round.
func testNested(b *bench) {
	start := time.Now()
	b.ban(time.Hour, "10.0.0.0/9", "2001:db8::/40")
	b.ban(time.Second, "10.1.0.0/16", "10.1.1.0/24", "2001:db8:1::/44", "2001:db8:1:1::/64")
	b.ban(time.Second, "172.16.0.0/16")
	b.ban(time.Hour, "172.16.1.0/24")
	b.endsAt("172.16.2.1", start.Add(time.Second))
	b.dropped("10.1.1.1", "10.0.0.0/9")
	b.dropped("2001:db8:1:1::1", "2001:db8::/40")
	b.dropped("172.16.1.1", "172.16.1.0/24")
}

// A ban that is added again has the new end and its old hits.
func testRenew(b *bench) {
	for _, c := range []struct{ src, prefix string }{{"192.0.2.7", "192.0.2.7/32"}, {"2001:db8::7", "2001:db8::/64"}, {"172.16.0.1", "172.16.0.0/12"}} {
		b.ban(time.Hour, c.prefix)
		b.dropped(c.src, c.prefix)
		before, _ := b.hits(c.prefix)
		end := time.Now().Add(1500 * time.Millisecond)
		b.ban(1500*time.Millisecond, c.prefix)
		if h, _ := b.hits(c.prefix); h.Packets < before.Packets || h.First != before.First && h.First.Sub(before.First).Abs() > time.Millisecond {
			b.t.Errorf("%s: hits were %+v and are %+v after renewal", c.prefix, before, h)
		}
		b.endsAt(c.src, end)
	}
}

func testReplace(b *bench) {
	b.ban(time.Hour, "192.0.2.1/32", "192.0.2.2/32", "192.0.3.0/24", "2001:db8::/64")
	b.dropped("192.0.2.2", "192.0.2.2/32")
	before, _ := b.hits("192.0.2.2/32")
	b.replace(bans(time.Hour, "192.0.2.2/32", "192.0.2.4/32", "2001:db8:1::/48", "192.0.2.2/32"))
	if h, _ := b.hits("192.0.2.2/32"); h.Packets < before.Packets {
		b.t.Errorf("hits were %d and are %d after Replace", before.Packets, h.Packets)
	}
	for _, src := range []string{"192.0.2.1", "192.0.3.1", "2001:db8::1"} {
		b.Connects(src, Mail)
	}
	b.dropped("192.0.2.2", "192.0.2.2/32")
	b.dropped("192.0.2.4", "192.0.2.4/32")
	b.dropped("2001:db8:1::1", "2001:db8:1::/48")
	b.replace(nil)
	b.Connects("192.0.2.2", Mail)
	if n := b.status().Bans; n != 0 {
		b.t.Errorf("status counts %d bans after Replace with none", n)
	}
}

// R-BX-15: while everything around it is replaced, not one SYN of a banned
// source is answered.
func testReplaceGap(b *bench) {
	sets := [][]firewall.Ban{
		bans(time.Hour, "192.0.2.7/32", "192.0.2.8/32", "198.51.100.0/24"),
		bans(2*time.Hour, "192.0.2.7/32", "192.0.2.9/32", "2001:db8::/64", "203.0.113.0/25"),
	}
	b.replace(sets[0])
	s := b.Send("192.0.2.7", Mail, Shape{})
	for i := range 40 {
		b.replace(sets[i%2])
		b.ban(3*time.Hour, "192.0.2.7/32")
		b.configure()
	}
	b.eventually("a thousand SYNs", func() bool { return s.Sent.Load() >= 1000 })
	s.Stop(b.World)
	if n := s.Answered.Load(); n != 0 {
		b.t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
	b.t.Logf("%d SYNs, none answered", s.Sent.Load())
}

// All or nothing: what cannot be done as a whole leaves things as they were.
func testTransaction(b *bench) {
	b.close()
	b.must("start anew", b.Inside(func() error { return b.engine.Remove(b.dir) }))
	b.open(4)
	b.configure()
	b.ban(time.Hour, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")
	var many []string
	for i := range 50 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 32).String())
	}
	add := append(bans(time.Hour, "192.0.3.0/24", "2001:db8::/64"), bans(time.Hour, many...)...)
	if err := b.apply(add, bans(0, "192.0.2.2/32")); err == nil {
		b.t.Error("50 bans went into a table for 4")
	}
	if err := b.Inside(func() error { return b.now.Replace(context.Background(), slices.Values(add)) }); err == nil {
		b.t.Error("Replace put 50 bans into a table for 4")
	}
	invalid := append(bans(time.Hour, "192.0.2.4/32"), firewall.Ban{Until: time.Now().Add(time.Hour)})
	if err := b.apply(invalid, bans(0, "192.0.2.1/32")); err == nil {
		b.t.Error("a ban of no prefix was taken")
	}
	if n := b.status().Bans; n != 3 {
		b.t.Errorf("%d bans stand after changes that failed, not 3", n)
	}
	for _, src := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		b.dropped(src, src+"/32")
	}
	b.Connects("198.51.100.0", Mail)
	b.Connects("192.0.3.1", Mail)
	b.must("swap in one change", b.apply(bans(time.Hour, "192.0.2.9/32", "192.0.2.1/32"), bans(0, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.77/32")))
	b.dropped("192.0.2.1", "192.0.2.1/32")
	b.dropped("192.0.2.9", "192.0.2.9/32")
	b.Connects("192.0.2.2", Mail)
}

func testOver(b *bench) {
	b.ban(time.Hour, "192.0.2.7/32", "2001:db8::/64")
	b.ban(-time.Second, "192.0.2.7/32", "192.0.2.8/32")
	b.must("a ban that has no end is over", b.apply([]firewall.Ban{{Prefix: netip.MustParsePrefix("2001:db8::/64")}}, nil))
	for _, src := range []string{"192.0.2.7", "192.0.2.8", "2001:db8::7"} {
		b.Connects(src, Mail)
	}
	b.must("a ban beyond all clocks", b.apply([]firewall.Ban{{Prefix: netip.MustParsePrefix("192.0.2.9/32"), Until: time.Now().AddDate(900, 0, 0)}}, nil))
	b.dropped("192.0.2.9", "192.0.2.9/32")
}

// A source of this link only is nobody from outside, whatever is banned.
func testLocal(b *bench) {
	b.ban(time.Hour, "169.254.0.0/16", "169.254.1.1/32")
	before := b.status().Counters["local"]
	b.Connects("169.254.1.1", Mail)
	if n := b.status().Counters["local"]; n <= before {
		b.t.Error("local: counted nothing")
	}
}

// Shapes that other filters have been got around with.
var shapes = []Shape{
	{Name: "plain"}, {Name: "4 bytes of options", Options: 4}, {Name: "40 bytes of options", Options: 40},
	{Name: "1 extension header", Headers: 1}, {Name: "6 extension headers", Headers: 6}, {Name: "8 extension headers", Headers: 8},
}

func testShapes(b *bench) {
	b.ban(time.Hour, "192.0.2.7/32", "2001:db8::/64")
	for _, s := range shapes {
		banned, clean := "192.0.2.7", "192.0.2.8"
		if s.Headers > 0 {
			banned, clean = "2001:db8::7", "2001:db8:1::7"
		}
		from := b.Send(clean, Mail, s)
		b.eventually(s.Name+": a clean source is answered", func() bool { return from.Answered.Load() > 0 })
		from.Stop(b.World)
		from = b.Send(banned, Mail, s)
		b.eventually(s.Name+": a hundred SYNs", func() bool { return from.Sent.Load() >= 100 })
		from.Stop(b.World)
		if n := from.Answered.Load(); n != 0 {
			b.t.Errorf("%s: %d of %d SYNs of a banned source were answered", s.Name, n, from.Sent.Load())
		}
	}
}
