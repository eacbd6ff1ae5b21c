package geo

import (
	"iter"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// realDB is the database that comes with the program.
func realDB(t testing.TB) *DB {
	t.Helper()
	db, err := Open("", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(db.country.files) == 0 {
		t.Skip("geoip and geoip6 of tor-geoipdb are not installed (scripts/deps does)")
	}
	return db
}

// R-BW-11: at every boundary of the real database, and at the addresses before
// and behind it, the compiled tables say what the database says.
func TestTablesAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("all of the real database in one goroutine: -short (make race) leaves that to make test")
	}
	db := realDB(t)
	began := time.Now()
	tables, err := db.Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("compiled and checked in %s: %d splits, %d runs of IPv6, %d deep ones", time.Since(began).Round(time.Millisecond),
		len(tables.Split4), len(tables.Runs6), len(tables.Deep6))
	n := 0
	for _, f := range []family{4, 6} {
		for k := range db.country.now.Load().starts(f) {
			for _, at := range around(k, f) {
				a := at.addr(f)
				o := db.Lookup(a)
				if got := tables.Lookup(a); got.Class() != ClassOf(o.Country) || got.Network() != 0 {
					t.Fatalf("%v is in %q and comes out as %v", a, o.Country, got.Class())
				}
				n++
			}
		}
	}
	if n < 1_000_000 {
		t.Errorf("looked at %d addresses only", n)
	}
}

// check is the last word before tables are put in force: it has to see any
// single wrong entry.
func TestCheckSeesEveryFault(t *testing.T) {
	db := smallDB(t)
	for name, spoil := range map[string]func(*Tables){
		"a byte":             func(t *Tables) { t.V4[0xcb0071] = 200 },
		"a kind":             func(t *Tables) { t.Kinds[1]++ },
		"a split":            func(t *Tables) { t.Split4[len(t.Split4)-1].Kind++ },
		"where a split is":   func(t *Tables) { t.Split4[len(t.Split4)-1].Start++ },
		"an index":           func(t *Tables) { t.Index4[0xcb01], t.Index4[0xcb00] = 0, 0 },
		"a run":              func(t *Tables) { t.Runs6[len(t.Runs6)-1].Kind++ },
		"where a run begins": func(t *Tables) { t.Runs6[1].Start++ },
		"a deep run":         func(t *Tables) { t.Deep6[len(t.Deep6)-1].Lo++ },
	} {
		tables, err := db.Compile([]uint32{64500})
		if err != nil {
			t.Fatal(err)
		}
		spoil(tables)
		s := snapshot{sources: []*loaded{db.country.now.Load(), db.asn.now.Load()}, asns: tables.ASNs}
		if err := tables.check(s); err == nil {
			t.Errorf("%s is wrong, and check finds nothing", name)
		}
	}
}

func smallDB(t *testing.T) *DB {
	t.Helper()
	dir := t.TempDir()
	countries, networks := filepath.Join(dir, "c.mmdb"), filepath.Join(dir, "a.mmdb")
	writeMMDB(t, countries, "GeoLite2-Country", map[string]mmdbtype.Map{
		"203.0.113.0/24": country("NL"), "198.51.100.0/25": country("DE"), "198.51.100.128/26": country("FR"),
		"10.0.0.0/8": country("US"), "2001:db8::/32": country("DE"), "2001:db8:1::/48": country("NL"),
		"2001:db8:2::5/128": country("FR"), "2001:db8:2::8/125": country("US"), "3fff::/20": country("SE"),
	})
	writeMMDB(t, networks, "GeoLite2-ASN", map[string]mmdbtype.Map{
		"203.0.113.0/25": asn(64500, "Example"), "10.1.0.0/16": asn(64500, "Example"), "10.2.0.0/16": asn(64501, "Other"),
		"2001:db8:1:8000::/49": asn(64500, "Example"),
	})
	db, err := Open(countries, networks)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestTablesOfTwoDatabases(t *testing.T) {
	db := smallDB(t)
	tables, err := db.Compile([]uint32{64999, 64500, 64500})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]struct {
		country string
		network int
	}{
		"203.0.113.0": {"NL", 1}, "203.0.113.127": {"NL", 1}, "203.0.113.128": {"NL", 0}, "203.0.114.0": {"", 0}, "203.0.112.255": {"", 0},
		"198.51.100.127": {"DE", 0}, "198.51.100.128": {"FR", 0}, "198.51.100.192": {"", 0},
		"10.1.2.3": {"US", 1}, "10.2.2.3": {"US", 0}, "0.0.0.0": {"", 0}, "255.255.255.255": {"", 0},
		"2001:db8::": {"DE", 0}, "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff": {"", 0}, "2001:db8:1::": {"NL", 0},
		"2001:db8:1:8000::": {"NL", 1}, "2001:db8:1:ffff:ffff:ffff:ffff:ffff": {"NL", 1}, "2001:db8:2::": {"DE", 0},
		"2001:db8:2::4": {"DE", 0}, "2001:db8:2::5": {"FR", 0}, "2001:db8:2::6": {"DE", 0}, "2001:db8:2::8": {"US", 0},
		"2001:db8:2::f": {"US", 0}, "2001:db8:2::10": {"DE", 0}, "2001:db8:2:1::": {"DE", 0}, "2001:db9::": {"", 0},
		"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff": {"SE", 0}, "3fff:1000::": {"", 0}, "::": {"", 0}, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": {"", 0},
		"2002:cb00:7101::1": {"", 0}, "::203.0.113.1": {"", 0}, "::ffff:203.0.113.1": {"NL", 1},
	} {
		if k := tables.Lookup(netip.MustParseAddr(addr)); k.Class().String() != want.country || k.Network() != want.network {
			t.Errorf("%s is in %q, network %d, want %+v", addr, k.Class(), k.Network(), want)
		}
	}
	if _, n, ok := tables.Of(Rule{ASN: 64500}); n != 1 || !ok {
		t.Errorf("AS64500 is network %d, %t", n, ok)
	}
	if _, _, ok := tables.Of(Rule{ASN: 64501}); ok {
		t.Error("a network that was not asked for has a place")
	}
	if len(tables.From) != 2 {
		t.Errorf("from %+v", tables.From)
	}
}

// More kinds than a byte can tell apart.
func TestMoreKindsThanBytes(t *testing.T) {
	dir := t.TempDir()
	records := map[string]mmdbtype.Map{}
	const n = 1000
	code := func(i int) string { return canonicalCountry(Class(i + 1).String()) }
	for i := range n {
		records[netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24).String()] = country(code(i))
	}
	path := filepath.Join(dir, "c.mmdb")
	writeMMDB(t, path, "GeoLite2-Country", records)
	db, err := Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := db.Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		a := netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 200})
		if got := tables.Lookup(a).Class().String(); got != code(i) {
			t.Fatalf("%v is in %q, want %q", a, got, code(i))
		}
	}
}

func TestCompileNothing(t *testing.T) {
	useFolder(t, "", "")
	db, err := Open("", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Compile(nil); err != ErrNoDatabase {
		t.Errorf("error %v", err)
	}
	many := make([]uint32, MaxNetworks+1)
	for i := range many {
		many[i] = uint32(i + 1)
	}
	if _, err := smallDB(t).Compile(many); err == nil || !strings.Contains(err.Error(), "name fewer") {
		t.Errorf("error %v", err)
	}
}

func TestClass(t *testing.T) {
	seen := map[Class]string{}
	for c := range countryNames {
		k := ClassOf(c)
		if k == 0 || k.String() != c || seen[k] != "" {
			t.Errorf("%s has class %d, which is %q", c, k, k)
		}
		seen[k] = c
	}
	for _, c := range []string{"", "N", "nl", "NLD", "??", "N-"} {
		if k := ClassOf(c); k != 0 {
			t.Errorf("%q has class %d", c, k)
		}
	}
	if ClassOf("99") != maxClass || ClassOf("A1").String() != "A1" {
		t.Error("codes with digits are mixed up")
	}
}

func TestParseRule(t *testing.T) {
	for s, want := range map[string]string{"NL": "NL", " nl": "NL", "as64500": "AS64500", "AS": "AS", "uk": "GB", "AS4294967295": "AS4294967295"} {
		if r, err := ParseRule(s); err != nil || r.String() != want {
			t.Errorf("%q is %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "N", "QQ", "NLD", "AS0", "AS-1", "AS4294967296", "ASX", "64500"} {
		if r, err := ParseRule(s); err == nil || !strings.Contains(err.Error(), "write") {
			t.Errorf("%q is %v, %v", s, r, err)
		}
	}
	o := Origin{Country: "NL", ASN: 64500}
	for rule, want := range map[Rule]bool{{Country: "NL"}: true, {ASN: 64500}: true, {Country: "DE"}: false, {ASN: 1}: false, {}: false} {
		if rule.Matches(o) != want || rule.Matches(Origin{}) {
			t.Errorf("%v", rule)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	db := realDB(b)
	for b.Loop() {
		if _, err := db.Compile(nil); err != nil {
			b.Fatal(err)
		}
	}
}

// The ranges of a country are just the addresses that look-ups find in it.
func TestRanges(t *testing.T) {
	tables, err := smallDB(t).Compile([]uint32{64500})
	if err != nil {
		t.Fatal(err)
	}
	wanted := tables.Wanted([]Rule{{Country: "DE"}, {ASN: 64500}, {ASN: 64501}})
	var got []string
	for _, ranges := range []iter.Seq[Range]{tables.Ranges4(wanted), tables.Ranges6(wanted)} {
		for r := range ranges {
			got = append(got, r.First.String()+"-"+r.Last.String())
		}
	}
	want := []string{
		"10.1.0.0-10.1.255.255", "198.51.100.0-198.51.100.127", "203.0.113.0-203.0.113.127",
		"2001:db8::-2001:db8:0:ffff:ffff:ffff:ffff:ffff", "2001:db8:1:8000::-2001:db8:2::4", "2001:db8:2::6-2001:db8:2::7",
		"2001:db8:2::10-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
	}
	if !slices.Equal(got, want) {
		t.Errorf("ranges %v", got)
	}
	everything := func(Kind) bool { return true }
	for r := range tables.Ranges4(everything) {
		if r.First.String()+"-"+r.Last.String() != "0.0.0.0-255.255.255.255" {
			t.Errorf("all of IPv4 is %v", r)
		}
	}
}

// Of the real database: ranges hold what they should, and end where they should.
func TestRealRanges(t *testing.T) {
	if testing.Short() {
		t.Skip("all of the real database in one goroutine: -short (make race) leaves that to make test")
	}
	tables, err := realDB(t).Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	wanted, n := tables.Wanted([]Rule{{Country: "US"}, {Country: "DE"}}), 0
	for _, ranges := range []iter.Seq[Range]{tables.Ranges4(wanted), tables.Ranges6(wanted)} {
		for r := range ranges {
			n++
			for a, in := range map[netip.Addr]bool{r.First: true, r.Last: true, r.First.Prev(): false, r.Last.Next(): false} {
				if a.IsValid() && wanted(tables.Lookup(a)) != in {
					t.Fatalf("%v is at the edge of %v", a, r)
				}
			}
		}
	}
	if n < 50_000 {
		t.Errorf("%d ranges only", n)
	}
}
