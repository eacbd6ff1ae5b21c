package enginetest

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"mailweir/geo"
)

// Worlds are two worlds that the client's networks are in. In both, 192.0.2.0/24
// and 2001:db8:1::/48 are of AS64500 and in NL, 198.51.100.0/24 and
// 2001:db8:2::/48 in DE; the lower half of 203.0.113.0/24 is in FR, the upper
// one in NL. All else is nowhere in the first; in the second 10.0.0.0/8 is in US
// and of AS64499, so that AS64500 has another number. They are made once: 16
// million entries each, however little is in them.
func Worlds(t testing.TB) [2]*geo.Tables {
	t.Helper()
	worlds.Do(func() { worlds.both = makeWorlds(t) })
	if worlds.both[0] == nil {
		t.Fatal("the worlds could not be made: the first test that wanted them says why")
	}
	return worlds.both
}

var worlds struct {
	sync.Once
	both [2]*geo.Tables
}

func makeWorlds(t testing.TB) [2]*geo.Tables {
	t.Helper()
	countries := map[string]mmdbtype.DataType{
		"192.0.2.0/24": country("NL"), "198.51.100.0/24": country("DE"), "203.0.113.0/25": country("FR"), "203.0.113.128/25": country("NL"),
		"2001:db8:1::/48": country("NL"), "2001:db8:2::/48": country("DE"),
	}
	networks := map[string]mmdbtype.DataType{"192.0.2.0/24": network(64500), "2001:db8:1::/48": network(64500)}
	first := compile(t, countries, networks, 64500)
	countries["10.0.0.0/8"], networks["10.0.0.0/8"] = country("US"), network(64499)
	return [2]*geo.Tables{first, compile(t, countries, networks, 64499, 64500)}
}

// deny puts a world in force, and what is denied in it.
func (b *bench) deny(w *geo.Tables, rules ...string) {
	b.t.Helper()
	b.rules.World, b.rules.Deny = w, nil
	for _, s := range rules {
		r, err := geo.ParseRule(s)
		b.must("parse a rule", err)
		b.rules.Deny = append(b.rules.Deny, r)
	}
	b.configure()
}

// denied fails unless a connection of src is dropped for where it is from.
func (b *bench) denied(src string) {
	b.t.Helper()
	before := b.status().Counters["geo"]
	b.Silent(src, Mail, func() bool { return b.status().Counters["geo"] > before })
}

// R-BW-11: new connections from a denied country or network are dropped at the
// protected port, and only those: allow wins, and what answers us returns.
func testPlaces(b *bench) {
	w := Worlds(b.t)[0]
	b.deny(w)
	for _, src := range []string{"192.0.2.7", "2001:db8:2::7"} {
		b.Connects(src, Mail)
	}
	b.deny(w, "DE", "FR", "AS64500")
	for _, src := range []string{"192.0.2.7", "198.51.100.255", "203.0.113.127", "2001:db8:1::7", "2001:db8:2:ffff::7"} {
		b.denied(src)
		b.Connects(src, Other)
	}
	for _, src := range []string{"203.0.113.128", "10.0.0.1", "192.0.3.0", "2001:db8:3::7", "2001:db8::ffff"} {
		b.Connects(src, Mail)
	}
	b.answered("198.51.100.9")
	b.answered("2001:db8:2::9")
	b.rules.Allow = []netip.Prefix{netip.MustParsePrefix("198.51.100.8/29"), netip.MustParsePrefix("2001:db8:2:1::/64")}
	b.configure()
	b.Connects("198.51.100.9", Mail)
	b.Connects("2001:db8:2:1::9", Mail)
	b.denied("198.51.100.16")
	b.ban(time.Hour, "198.51.100.7/32")
	b.dropped("198.51.100.7", "198.51.100.7/32")
	b.deny(Worlds(b.t)[1], "AS64500")
	b.denied("192.0.2.7")
	b.Connects("198.51.100.16", Mail)
	b.Connects("10.0.0.1", Mail)
	for _, src := range []string{"192.0.2.7", "2001:db8:1::7"} {
		before := b.status().Counters["geo"]
		b.Inject(b.HiddenPort(src))
		b.eventually("a first fragment that hides its port is dropped: "+src, func() bool { return b.status().Counters["geo"] > before })
	}
	b.deny(nil, "AS64500")
	b.Connects("192.0.2.7", Mail)
}

// answered opens a connection from a protected port of the server to the
// client, at an address that is denied: the answer has to come back.
func (b *bench) answered(src string) {
	b.t.Helper()
	const out = 27
	b.rules.Ports = []uint16{Mail, out}
	b.configure()
	a := netip.MustParseAddr(src)
	var l net.Listener
	b.must("listen at the client", b.in(b.Client, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
		return err
	}))
	defer l.Close()
	b.must("connect from the protected port", b.Inside(func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(serverFor(a), out))}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		return c.Close()
	}))
}

func testPlacesObserved(b *bench) {
	b.rules.Observe = true
	b.deny(Worlds(b.t)[0], "DE")
	before := b.status().Counters
	b.Connects("198.51.100.7", Mail)
	b.Connects("2001:db8:2::7", Mail)
	after := b.status().Counters
	if n := after["observed"] - before["observed"]; n < 2 {
		b.t.Errorf("observed: counted %d packets of 2 connections", n)
	}
	if n := after["geo"] - before["geo"]; n != 0 {
		b.t.Errorf("geo: counted %d packets in observe", n)
	}
}

// While other countries come and go and the world is swapped, not one SYN of a
// source that stays denied is answered.
func testPlacesGap(b *bench) {
	worlds := Worlds(b.t)
	b.deny(worlds[0], "AS64500")
	s := b.Send("192.0.2.7", Mail, Shape{})
	for i := range 12 {
		b.deny(worlds[i%2], [][]string{{"AS64500"}, {"DE", "AS64500"}, {"AS64500", "FR"}}[i%3]...)
	}
	b.eventually("three hundred SYNs", func() bool { return s.Sent.Load() >= 300 })
	s.Stop(b.World)
	if n := s.Answered.Load(); n != 0 {
		b.t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
}

func testPlacesDamage(b *bench) {
	b.replace(nil)
	b.deny(Worlds(b.t)[0], "DE")
	b.denied("198.51.100.7")
	b.must("intact", b.intact())
	b.must("damage it", b.Inside(func() error { return b.engine.Damage(b.dir) }))
	b.Connects("198.51.100.7", Mail)
	if b.intact() == nil {
		b.t.Fatal("Intact noticed nothing")
	}
	b.configure()
	b.replace(nil)
	b.denied("198.51.100.7")
	b.must("intact again", b.intact())
}

func country(iso string) mmdbtype.DataType {
	return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(iso)}}
}

func network(asn uint32) mmdbtype.DataType {
	return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(asn)}
}

func compile(t testing.TB, countries, networks map[string]mmdbtype.DataType, asns ...uint32) *geo.Tables {
	t.Helper()
	dir := t.TempDir()
	db, err := geo.Open(
		writeMMDB(t, filepath.Join(dir, "country.mmdb"), "GeoLite2-Country", countries),
		writeMMDB(t, filepath.Join(dir, "asn.mmdb"), "GeoLite2-ASN", networks))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := db.Compile(asns)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// writeMMDB makes a MaxMind DB file of prefixes that do not overlap.
func writeMMDB(t testing.TB, path, dbType string, records map[string]mmdbtype.DataType) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: dbType, IncludeReservedNetworks: true, Description: map[string]string{"en": "for a test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, r := range records {
		_, n, err := net.ParseCIDR(p)
		if err == nil {
			err = w.Insert(n, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := w.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return path
}
