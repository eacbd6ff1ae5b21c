package bpf_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"mailweir/bpf"
)

// fixtures are frames whose end we state here, so that model and program
// cannot err together.
var fixtures = []struct {
	name string
	frame
	reason int
}{
	{"banned", frame{src: "192.0.2.1"}, banned},
	{"clean", frame{src: "192.0.2.2"}, clean},
	{"over", frame{src: "192.0.2.3"}, clean},
	{"allowed", frame{src: "192.0.2.9"}, allowed},
	{"another protected port", frame{src: "192.0.2.1", port: 65535}, banned},
	{"port beside a protected one", frame{src: "192.0.2.1", port: 24}, unprotected},
	{"prefix", frame{src: "10.255.255.255"}, banned},
	{"outside the prefix", frame{src: "11.0.0.0"}, clean},
	{"prefix inside that is over", frame{src: "10.1.2.3"}, banned},
	{"two prefixes inside that are over", frame{src: "10.1.1.3"}, banned},
	{"prefix inside one that is over", frame{src: "172.16.5.1"}, banned},
	{"prefix that is over", frame{src: "172.16.6.1"}, clean},
	{"prefix, allowed", frame{src: "10.9.1.1"}, allowed},
	{"v6 host", frame{src: "2001:db8::1"}, banned},
	{"v6 clean", frame{src: "2001:db8::2"}, clean},
	{"v6 host over", frame{src: "2001:db8::3"}, clean},
	{"v6 /64", frame{src: "2001:db8:0:1:ffff::"}, banned},
	{"v6 /64 over", frame{src: "2001:db8:0:3::1"}, clean},
	{"v6 /56", frame{src: "2001:db8:0:1ff::1"}, banned},
	{"v6 outside the /56", frame{src: "2001:db8:0:200::1"}, clean},
	{"v6 /48", frame{src: "2001:db8:1:ffff::1"}, banned},
	{"v6 /48, allowed", frame{src: "2001:db8:1:9::1"}, allowed},
	{"v6 /47", frame{src: "2001:db8:3::1"}, banned},
	{"v6 /33", frame{src: "2001:db8:8000::1"}, banned},
	{"v6 prefixes inside that are over", frame{src: "2001:db8:ff00::1"}, banned},
	{"UDP of a banned source", frame{src: "192.0.2.1", proto: 17}, notTCP},
	{"ICMP of a banned source", frame{src: "192.0.2.1", proto: 1}, notTCP},
	{"neighbour discovery", frame{src: "fe80::1", proto: 58}, local},
	{"ICMPv6 of a banned source", frame{src: "2001:db8::1", proto: 58}, notTCP},
	{"loopback", frame{src: "127.0.0.1"}, local},
	{"link-local", frame{src: "169.254.1.1"}, local},
	{"no address yet", frame{src: "0.0.0.0", proto: 17}, local},
	{"unspecified", frame{src: "::", proto: 58}, local},
	{"1 tag", frame{src: "192.0.2.1", tags: 1}, banned},
	{"2 tags", frame{src: "2001:db8::1", tags: 2}, banned},
	{"3 tags", frame{src: "192.0.2.1", tags: 3}, vlan},
	{"options", frame{src: "192.0.2.1", options: 4}, banned},
	{"all options", frame{src: "192.0.2.1", options: 40}, banned},
	{"options, clean", frame{src: "192.0.2.2", options: 40}, clean},
	{"options, other port", frame{src: "192.0.2.1", options: 8, port: 80}, unprotected},
	{"first fragment", frame{src: "192.0.2.1", fragment: 0x2000}, banned},
	{"later fragment of a banned source", frame{src: "192.0.2.1", fragment: 0x2001, port: 80}, banned},
	{"later fragment of a clean source", frame{src: "192.0.2.2", fragment: 1}, noPort},
	{"later fragment of UDP", frame{src: "192.0.2.1", fragment: 1, proto: 17}, notTCP},
	{"don't fragment", frame{src: "192.0.2.1", fragment: 0x4000}, banned},
	{"v6 first fragment", frame{src: "2001:db8::1", headers: []byte{44}}, banned},
	{"v6 first fragment, other port", frame{src: "2001:db8::1", headers: []byte{44}, port: 80}, unprotected},
	{"v6 later fragment", frame{src: "2001:db8::1", headers: []byte{44}, fragment: 7, port: 80}, banned},
	{"v6 later fragment, clean", frame{src: "2001:db8::2", headers: []byte{44}, fragment: 7}, noPort},
	{"v6 later fragment of UDP", frame{src: "2001:db8::1", headers: []byte{44}, fragment: 7, proto: 17}, notTCP},
	{"v6 later fragment of options", frame{src: "2001:db8::1", headers: []byte{44, 60}, fragment: 7, proto: 17}, banned},
	{"authentication header", frame{src: "2001:db8::1", headers: []byte{0, 51}}, banned},
	{"all kinds of headers", frame{src: "2001:db8::1", headers: []byte{0, 60, 43, 44, 51, 60}}, banned},
	{"headers before another port", frame{src: "2001:db8::1", headers: []byte{0, 60, 43, 44, 51, 60}, port: 80}, unprotected},
	{"encrypted", frame{src: "2001:db8::1", proto: 50}, notTCP},
	{"jumbo frame", frame{src: "192.0.2.1", jumbo: 8900}, banned},
	{"jumbo frame, clean", frame{src: "2001:db8::2", jumbo: 8900}, clean},
	{"aggregate beyond 64 KiB", frame{src: "192.0.2.1", edit: func(ip []byte) { ip[2], ip[3] = 0, 0 }}, banned},
	{"wrong version", frame{src: "192.0.2.2", edit: func(ip []byte) { ip[0] = 5<<4 | 5 }}, malformed},
	{"header too short", frame{src: "192.0.2.2", edit: func(ip []byte) { ip[0] = 4<<4 | 4 }}, malformed},
	{"longer than the frame", frame{src: "192.0.2.2", edit: func(ip []byte) { ip[3]++ }}, malformed},
	{"shorter than its header", frame{src: "192.0.2.2", edit: func(ip []byte) { ip[3] = 19 }}, malformed},
	{"port in the padding", frame{src: "192.0.2.1", port: 80, edit: func(ip []byte) { ip[3] = 23 }}, banned},
	{"v6 wrong version", frame{src: "2001:db8::2", edit: func(ip []byte) { ip[0] = 4 << 4 }}, malformed},
	{"v6 longer than the frame", frame{src: "2001:db8::2", edit: func(ip []byte) { ip[5]++ }}, malformed},
	{"v6 port in the padding", frame{src: "2001:db8::1", port: 80, edit: func(ip []byte) { ip[5] = 3 }}, banned},
}

func TestFixtures(t *testing.T) {
	f := load(t, world())
	for _, c := range fixtures {
		if got := f.agree(t, c.name, c.bytes()); got != c.reason {
			t.Errorf("%s: ends as %s, not %s", c.name, reasonNames[got], reasonNames[c.reason])
		}
	}
}

// TestFixturesObserved: nothing is dropped, what would be is counted.
func TestFixturesObserved(t *testing.T) {
	m := world()
	m.observe = true
	f := load(t, m)
	for _, c := range fixtures {
		want := c.reason
		if want == banned || want == malformed {
			want = observed
		}
		if got := f.agree(t, c.name, c.bytes()); got != want {
			t.Errorf("%s: ends as %s, not %s", c.name, reasonNames[got], reasonNames[want])
		}
	}
}

// TestExtensionHeaders: up to six are walked; behind more the port is unknown,
// and bans apply.
func TestExtensionHeaders(t *testing.T) {
	f := load(t, world())
	for n := range 9 {
		headers := slices.Repeat([]byte{60}, n)
		want := map[string]int{"2001:db8::1": banned, "2001:db8::2": clean}
		if n > 6 {
			want["2001:db8::2"] = noPort
		}
		for src, reason := range want {
			if got := f.agree(t, fmt.Sprint(n, " headers"), frame{src: src, headers: headers}.bytes()); got != reason {
				t.Errorf("%s behind %d headers ends as %s, not %s", src, n, reasonNames[got], reasonNames[reason])
			}
		}
	}
}

// TestTruncation cuts every fixture at every byte: with its lengths as they
// were, and with lengths that fit.
func TestTruncation(t *testing.T) {
	f := load(t, world())
	for _, c := range fixtures {
		if c.jumbo > 0 {
			continue
		}
		whole := c.bytes()
		for n := 14; n < len(whole); n++ {
			f.agree(t, fmt.Sprintf("%s, %d bytes", c.name, n), whole[:n])
			if l3 := 14 + 4*c.tags; n > l3+40 {
				f.agree(t, fmt.Sprintf("%s, %d bytes, lengths corrected", c.name, n), shortened(whole[:n], l3))
			}
		}
	}
}

// shortened is a frame whose IP header says how long it is.
func shortened(b []byte, l3 int) []byte {
	b = slices.Clone(b)
	if b[l3]>>4 == 4 {
		binary.BigEndian.PutUint16(b[l3+2:], uint16(len(b)-l3))
	} else {
		binary.BigEndian.PutUint16(b[l3+4:], uint16(len(b)-l3-40))
	}
	return b
}

// TestPadded: what follows the packet in the frame is not read.
func TestPadded(t *testing.T) {
	f := load(t, world())
	for _, c := range fixtures {
		if c.name == "longer than the frame" || c.name == "v6 longer than the frame" || c.name == "aggregate beyond 64 KiB" {
			continue
		}
		if got := f.agree(t, c.name, append(c.bytes(), make([]byte, 22)...)); got != c.reason {
			t.Errorf("%s, padded: ends as %s, not %s", c.name, reasonNames[got], reasonNames[c.reason])
		}
	}
}

// TestEmptyTablesAreNotAsked: without its bit in cfg a table is not looked up.
func TestEmptyTablesAreNotAsked(t *testing.T) {
	f := load(t, world())
	f.setMode(t, f.mode()&^(0x7f<<8))
	for _, src := range []string{"192.0.2.1", "10.0.0.1", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:101::1", "2001:db8:1::1", "2001:db8:8000::1"} {
		if _, got := f.run(t, frame{src: src}.bytes()); got != clean {
			t.Errorf("%s: ends as %s", src, reasonNames[got])
		}
	}
}

// TestGenerationsAreApart: ports and allow of the other generation do not count.
func TestGenerationsAreApart(t *testing.T) {
	f := load(t, world())
	f.setMode(t, f.mode()&^1)
	if _, got := f.run(t, frame{src: "192.0.2.1"}.bytes()); got != unprotected {
		t.Errorf("the other generation's ports count: %s", reasonNames[got])
	}
	if err := f.obj.Ports.Put(uint32(25/8), uint64(1)<<8); err != nil {
		t.Fatal(err)
	}
	if _, got := f.run(t, frame{src: "192.0.2.9"}.bytes()); got != banned {
		t.Errorf("the other generation's allow entries count: %s", reasonNames[got])
	}
}

// hits reads what a ban has counted.
func (f *filter) hits(t *testing.T, prefix string) (hits uint32, first uint64) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	v6 := !p.Addr().Is4()
	b := f.bans[0]
	if v6 {
		b = f.bans[1]
	}
	n, _, ok := b.Find(bpf.KeyOf(p))
	if !ok {
		t.Fatalf("%s is not banned", p)
	}
	return b.Hits(n), f.firsts.At(f.hash.Sum(bpf.KeyOf(p), v6))
}

// TestHits: a ban counts its drops, and stamps the first with the exact clock.
func TestHits(t *testing.T) {
	f := load(t, world())
	for i := range uint32(500) { // so that not all of them have the first slot
		for family, p := range []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 2, byte(i >> 8), byte(i)}), 64),
		} {
			if err := f.single(family, p, bpf.ForEver); err != nil {
				t.Fatal(err)
			}
		}
	}
	for prefix, src := range map[string]string{"11.0.1.243/32": "11.0.1.243", "2002:1f3::/64": "2002:1f3::1", "192.0.2.1/32": "192.0.2.1", "2001:db8::1/128": "2001:db8::1", "2001:db8:0:1::/64": "2001:db8:0:1::7"} {
		before := monotonic(t)
		var first uint64
		for n := range uint32(3) {
			f.run(t, frame{src: src}.bytes())
			hits, at := f.hits(t, prefix)
			if hits != n+1 {
				t.Errorf("%s: %d hits after %d packets", prefix, hits, n+1)
			}
			if n == 0 {
				first = at
			}
			if at != first || at < before || at > monotonic(t) {
				t.Errorf("%s: first drop at %d, then %d; it was after %d", prefix, first, at, before)
			}
		}
	}
	f.run(t, frame{src: "192.0.2.9"}.bytes())
	if hits, first := f.hits(t, "192.0.2.9/32"); hits != 0 || first != 0 {
		t.Errorf("the ban of an allowed source has %d hits, the first at %d", hits, first)
	}
}

// TestHitsStop: at their largest number, and do not begin anew.
func TestHitsStop(t *testing.T) {
	f := load(t, world())
	n, _, _ := f.bans[0].Find(bpf.KeyOf(netip.MustParsePrefix("192.0.2.1/32")))
	f.bans[0].AddHits(n, 1<<32-2)
	for range 3 {
		if _, got := f.run(t, frame{src: "192.0.2.1"}.bytes()); got != banned {
			t.Errorf("ends as %s", reasonNames[got])
		}
	}
	if hits := f.bans[0].Hits(n); hits != 1<<32-1 {
		t.Errorf("%d hits", hits)
	}
}

func monotonic(t *testing.T) uint64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}

// TestCountersHaveAllReasons keeps the names that Go has in step with filter.c.
func TestCountersHaveAllReasons(t *testing.T) {
	spec, err := bpf.LoadFilter()
	if err != nil {
		t.Fatal(err)
	}
	if n := spec.Maps[bpf.FilterMapCounters].MaxEntries; n != reasonCount {
		t.Errorf("the program has %d reasons, the tests %d", n, reasonCount)
	}
	if names := slices.Sorted(maps.Keys(spec.Maps)); len(names) != 21 {
		t.Errorf("maps %v", names)
	}
}
