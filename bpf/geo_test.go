package bpf_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
)

// The classes of the small world: numbers mean nothing to the program.
const (
	near = 7  // nothing is denied
	far  = 11 // denied to group 1
)

// smallWorld: 192.0.2.0/24 and 203.0.113.0/24 are far, but 203.0.113.128/25 is
// near; 10.0.0.0/8 is near and 172.16.5.0/24, which is near, is of network 3. Of
// IPv6 2001:db8:5::/48 is far, but one address is near; all else is nowhere.
func smallWorld() *bpf.GeoWorld {
	w := new(bpf.GeoWorld)
	w.Kinds[1], w.Kinds[2], w.Kinds[3] = near, far, near|3<<16
	w.V4[0xc00002], w.V4[0xcb0071], w.V4[0xac1005] = 2, 255, 3
	for i := range 1 << 16 {
		w.V4[0x0a0000+i] = 1
	}
	for i := range 256 {
		w.Wide4[0x0a00+i] = 1
	}
	w.Wide4[0xc000], w.Wide4[0xcb00], w.Wide4[0xac10] = bpf.GeoMixed, bpf.GeoMixed, bpf.GeoMixed
	w.Split4[0] = bpf.GeoRun4{Start: 0xcb007100, Kind: far}
	w.Split4[1] = bpf.GeoRun4{Start: 0xcb007180, Kind: near}
	for i := 0xcb01; i < len(w.Index4); i++ {
		w.Index4[i] = 1
	}
	const five = 0x2001_0db8_0005_0000
	for i, r := range []struct {
		start uint64
		kind  uint32
	}{{0, 0}, {five, far}, {five + 9, ^uint32(0)}, {five + 10, far}, {five + 1<<16, 0}} {
		w.Start6[i], w.Kind6[i] = r.start, r.kind
	}
	w.Count6 = 5
	for i := range w.Index6 {
		if 1<<61+uint64(i)<<41 >= five {
			w.Index6[i] = 4
		}
	}
	w.Deep6[1] = bpf.GeoDeep6{Hi: five + 9, Kind: far}
	w.Deep6[2] = bpf.GeoDeep6{Hi: five + 9, Lo: 5, Kind: near}
	w.Deep6[3] = bpf.GeoDeep6{Hi: five + 9, Lo: 6, Kind: far}
	w.CountDeep = 4
	return w
}

const (
	cfgGeo     = 1 << 32
	cfgGeoSlot = 1 << 33
)

// withWorld puts the small world into slot 1 and denies far and network 3 of it
// to group 1; and, what must not count, network 3 of slot 0.
func withWorld(t testing.TB, m model) *filter {
	t.Helper()
	f := load(t, m)
	spec, err := bpf.LoadFilter()
	if err != nil {
		t.Fatal(err)
	}
	inner, err := ebpf.NewMap(spec.Maps[bpf.FilterMapGeo].InnerMap)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	var c bpf.FilterConfig
	for _, err := range []error{
		inner.Put(uint32(0), smallWorld()),
		f.obj.Geo.Put(uint32(1), inner),
		f.obj.ClassAction.Put(uint32(far), uint64(1<<1)),
		f.obj.ClassAction.Put(uint32(near), uint64(1<<2)), // of a group that nobody is in
		f.obj.ClassAction.Put(uint32(bpf.GeoClasses+bpf.GeoNetworks+3), uint64(1<<1)),
		f.obj.Cfg.Lookup(uint32(0), &c),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Mode |= cfgGeo | cfgGeoSlot
	if err := f.obj.Cfg.Put(uint32(0), c); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGeoLayout(t *testing.T) {
	spec, err := bpf.LoadFilter()
	if err != nil {
		t.Fatal(err)
	}
	if have, want := unsafe.Sizeof(bpf.GeoWorld{}), spec.Maps[bpf.FilterMapGeo].InnerMap.ValueSize; have != uintptr(want) {
		t.Errorf("GeoWorld has %d bytes, struct geo_world %d", have, want)
	}
	if rows := spec.Maps[bpf.FilterMapClassAction].MaxEntries; rows != bpf.GeoClasses+2*bpf.GeoNetworks {
		t.Errorf("%d rows", rows)
	}
}

// flags gives the TCP header of a frame other flags.
func flags(b byte) func(ip []byte) { return func(ip []byte) { ip[len(ip)-20+13] = b } }

// cut leaves n bytes of the TCP header, as the first of several fragments.
func cut(n int) func(ip []byte) {
	return func(ip []byte) {
		binary.BigEndian.PutUint16(ip[2:], uint16(20+n))
		binary.BigEndian.PutUint16(ip[6:], 0x2000)
	}
}

// R-BW-11, R-CX-07: allow, then bans, then countries; only what opens a
// connection to a protected port.
var geoFixtures = []struct {
	name string
	frame
	reason int
}{
	{"SYN", frame{src: "192.0.2.2"}, fromDenied},
	{"SYN with ECN", frame{src: "192.0.2.2", edit: flags(0xc2)}, fromDenied},
	{"SYN and FIN", frame{src: "192.0.2.2", edit: flags(3)}, fromDenied},
	{"SYN-ACK, an answer to us", frame{src: "192.0.2.2", edit: flags(0x12)}, clean},
	{"ACK", frame{src: "192.0.2.2", edit: flags(0x10)}, clean},
	{"RST", frame{src: "192.0.2.2", edit: flags(4)}, clean},
	{"a port that is not protected", frame{src: "192.0.2.2", port: 80}, unprotected},
	{"two VLAN tags and options", frame{src: "192.0.2.2", tags: 2, options: 40}, fromDenied},
	{"banned", frame{src: "192.0.2.1"}, banned},
	{"allowed", frame{src: "192.0.2.9"}, allowed},
	{"a fragment that hides its flags", frame{src: "192.0.2.2", edit: cut(8)}, fromDenied},
	{"a fragment that hides its port", frame{src: "192.0.2.2", edit: cut(2)}, fromDenied},
	{"a later fragment", frame{src: "192.0.2.2", fragment: 5}, noPort},
	{"half a /24", frame{src: "203.0.113.127"}, fromDenied},
	{"the other half", frame{src: "203.0.113.128"}, clean},
	{"the /24 behind it", frame{src: "203.0.114.1"}, clean},
	{"near", frame{src: "11.0.0.1"}, clean},
	{"a network", frame{src: "172.16.5.2"}, banned},
	{"nowhere", frame{src: "198.51.100.1"}, clean},
	{"v6", frame{src: "2001:db8:5::1"}, fromDenied},
	{"v6, ACK", frame{src: "2001:db8:5::1", edit: flags(0x10)}, clean},
	{"v6, one address that is near", frame{src: "2001:db8:5:9::5"}, clean},
	{"v6, beside it", frame{src: "2001:db8:5:9::4"}, fromDenied},
	{"v6, behind it", frame{src: "2001:db8:5:9::6"}, fromDenied},
	{"v6, the last", frame{src: "2001:db8:5:ffff:ffff:ffff:ffff:ffff"}, fromDenied},
	{"v6, behind the last", frame{src: "2001:db8:6::"}, clean},
	{"v6, 6 extension headers", frame{src: "2001:db8:5::1", headers: []byte{60, 60, 60, 60, 60, 60}}, fromDenied},
	{"v6, more than are walked", frame{src: "2001:db8:5::1", headers: []byte{60, 60, 60, 60, 60, 60, 60}}, fromDenied},
	{"v6, a later fragment", frame{src: "2001:db8:5::1", headers: []byte{44}, fragment: 5}, noPort},
	{"v6 elsewhere", frame{src: "fd00::1"}, clean},
}

func geoModel() model {
	m := world()
	delete(m.bans, netip.MustParsePrefix("172.16.5.0/24")) // the network
	m.bans[netip.MustParsePrefix("172.16.5.2/32")] = true
	return m
}

func TestGeo(t *testing.T) {
	f := withWorld(t, geoModel())
	for _, c := range geoFixtures {
		verdict, reason := f.run(t, c.bytes())
		if reason != c.reason {
			t.Errorf("%s: counted under %s, not %s", c.name, reasonNames[reason], reasonNames[c.reason])
		}
		if dropped := c.reason == fromDenied || c.reason == banned; dropped != (verdict == drop) {
			t.Errorf("%s: verdict %d", c.name, verdict)
		}
	}
	if _, reason := f.run(t, frame{src: "172.16.5.3"}.bytes()); reason != fromDenied {
		t.Errorf("a denied network: %s", reasonNames[reason])
	}
	if seen, denied := f.geoCount(t, bpf.GeoClasses+bpf.GeoNetworks+3); seen != 1 || denied != 1 {
		t.Errorf("the network was seen %d times, denied %d", seen, denied)
	}
	if seen, denied := f.geoCount(t, far); seen != denied || denied < 10 {
		t.Errorf("far was seen %d times, denied %d", seen, denied)
	}
	if seen, denied := f.geoCount(t, near); seen < 3 || denied != 0 {
		t.Errorf("near was seen %d times, denied %d", seen, denied)
	}
}

func (f *filter) geoCount(t *testing.T, row int) (seen, denied uint64) {
	t.Helper()
	var perCPU []bpf.FilterGeoCount
	if err := f.obj.ClassCount.Lookup(uint32(row), &perCPU); err != nil {
		t.Fatal(err)
	}
	for _, n := range perCPU {
		seen, denied = seen+n.Seen, denied+n.Denied
	}
	return seen, denied
}

func TestGeoObserved(t *testing.T) {
	m := geoModel()
	m.observe = true
	f := withWorld(t, m)
	if verdict, reason := f.run(t, frame{src: "192.0.2.2"}.bytes()); verdict != pass || reason != observed {
		t.Errorf("%s, verdict %d", reasonNames[reason], verdict)
	}
	if _, denied := f.geoCount(t, far); denied != 1 {
		t.Errorf("denied %d", denied)
	}
}

// Without a world, or with that of an empty slot, nobody is from anywhere.
func TestGeoNothingLoaded(t *testing.T) {
	f := withWorld(t, geoModel())
	var c bpf.FilterConfig
	if err := f.obj.Cfg.Lookup(uint32(0), &c); err != nil {
		t.Fatal(err)
	}
	mode := c.Mode
	for name, word := range map[string]uint64{"other slot": mode &^ cfgGeoSlot, "off": mode &^ cfgGeo} {
		c.Mode = word
		if err := f.obj.Cfg.Put(uint32(0), c); err != nil {
			t.Fatal(err)
		}
		if verdict, reason := f.run(t, frame{src: "192.0.2.2"}.bytes()); verdict != pass || reason != clean {
			t.Errorf("%s: %s, verdict %d", name, reasonNames[reason], verdict)
		}
	}
}
