package geo

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

const built = 1_790_000_000

// writeMMDB makes a MaxMind DB file of a type, from prefix to record.
func writeMMDB(t *testing.T, path, dbType string, records map[string]mmdbtype.Map) {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: dbType, BuildEpoch: built, IncludeReservedNetworks: true,
		Description: map[string]string{"en": dbType + " made for a test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// A wider prefix takes the place of what is inside it: it goes in first.
	for _, p := range slices.SortedFunc(maps.Keys(records), func(a, b string) int {
		return netip.MustParsePrefix(a).Bits() - netip.MustParsePrefix(b).Bits()
	}) {
		r := records[p]
		_, network, err := net.ParseCIDR(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Insert(network, r); err != nil {
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
}

func country(iso string) mmdbtype.Map {
	return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(iso)}}
}

func registered(iso string) mmdbtype.Map {
	return mmdbtype.Map{"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String(iso)}}
}

func asn(n uint32, name string) mmdbtype.Map {
	return mmdbtype.Map{
		"autonomous_system_number":       mmdbtype.Uint32(n),
		"autonomous_system_organization": mmdbtype.String(name),
	}
}

func TestMMDB(t *testing.T) {
	dir := t.TempDir()
	file := func(name, dbType string, records map[string]mmdbtype.Map) string {
		path := filepath.Join(dir, name)
		writeMMDB(t, path, dbType, records)
		return path
	}
	countries := map[string]mmdbtype.Map{"203.0.113.0/24": country("NL"), "2001:db8::/32": country("DE"), "198.51.100.0/24": registered("FR")}
	networks := map[string]mmdbtype.Map{"203.0.113.0/25": asn(64500, "Example"), "2001:db8::/48": asn(64501, "Six")}
	typed := file("country.mmdb", "GeoLite2-Country", countries)
	dbip := file("dbip.mmdb", "DBIP-Country-Lite", countries)
	typedASN := file("asn.mmdb", "GeoLite2-ASN", networks)
	flatCountry := file("flat.mmdb", "ipv4-country", map[string]mmdbtype.Map{"203.0.113.0/24": {"country_code": mmdbtype.String("nl")}})
	flatASN := file("flatasn.mmdb", "user-asn", networks)
	both := file("ipinfo.mmdb", "ipinfo generic_lite", map[string]mmdbtype.Map{"203.0.113.0/24": {
		"country_code": mmdbtype.String("NL"), "asn": mmdbtype.String("AS64500"), "as_name": mmdbtype.String("Example"),
	}})
	for name, tc := range map[string]struct {
		country, asn, addr string
		want               Origin
	}{
		"country":       {typed, typedASN, "203.0.113.7", Origin{"NL", 64500, "Example"}},
		"DB-IP":         {dbip, "", "203.0.113.7", Origin{"NL", 0, ""}},
		"v6":            {typed, typedASN, "2001:db8::1", Origin{"DE", 64501, "Six"}},
		"mapped":        {typed, typedASN, "::ffff:203.0.113.7", Origin{"NL", 64500, "Example"}},
		"zone":          {typed, typedASN, "2001:db8::1%eth0", Origin{"DE", 64501, "Six"}},
		"registered":    {typed, typedASN, "198.51.100.1", Origin{"FR", 0, ""}},
		"unknown":       {typed, typedASN, "192.0.2.1", Origin{}},
		"AS elsewhere":  {typed, typedASN, "203.0.113.200", Origin{"NL", 0, ""}},
		"flat country":  {flatCountry, flatASN, "203.0.113.7", Origin{"NL", 64500, "Example"}},
		"flat, both":    {both, "", "203.0.113.7", Origin{"NL", 64500, "Example"}},
		"two, one flat": {typed, both, "203.0.113.7", Origin{"NL", 64500, "Example"}},
		"flat, unknown": {flatCountry, flatASN, "192.0.2.1", Origin{}},
	} {
		db, err := Open(tc.country, tc.asn)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := db.Lookup(netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("%s: %s is of %+v, want %+v", name, tc.addr, got, tc.want)
		}
		if got := db.Lookup(netip.Addr{}); got != (Origin{}) {
			t.Errorf("%s: the zero address is of %+v", name, got)
		}
	}
	db, _ := Open(typed, typedASN)
	info := db.Info()
	if len(info) != 2 || info[0].Type != "GeoLite2-Country" || info[0].Path != typed || info[0].Built.Unix() != built ||
		info[0].Problem != "" || !strings.Contains(info[1].Source, "made for a test") {
		t.Errorf("info %+v", info)
	}
}

// A file that is no database, or a damaged one, is named with what to do, and
// the other database is used.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.mmdb")
	writeMMDB(t, good, "GeoLite2-ASN", map[string]mmdbtype.Map{"203.0.113.0/24": asn(64500, "Example")})
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	city := filepath.Join(dir, "domain.mmdb")
	writeMMDB(t, city, "GeoIP2-Domain", map[string]mmdbtype.Map{"203.0.113.0/24": {"domain": mmdbtype.String("example.com")}})
	useless := filepath.Join(dir, "useless.mmdb")
	writeMMDB(t, useless, "colours", map[string]mmdbtype.Map{"203.0.113.0/24": {"colour": mmdbtype.String("red")}})
	bad := filepath.Join(dir, "bad.mmdb")
	for name, tc := range map[string]struct {
		path, want string
		content    []byte
	}{
		"missing":       {filepath.Join(dir, "none.mmdb"), "no such file", nil},
		"empty":         {bad, "is no MaxMind DB file", []byte{}},
		"text":          {bad, "is no MaxMind DB file", []byte("<html>not found</html>")},
		"head cut off":  {bad, "bad.mmdb", whole[len(whole)/3:]},
		"zeros in tree": {bad, "is damaged", append(make([]byte, 200), whole[200:]...)},
		"wrong kind":    {city, "neither countries nor AS numbers", nil},
		"useless":       {useless, "neither country_code nor an AS number", nil},
	} {
		if tc.content != nil {
			if err := os.WriteFile(bad, tc.content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		db, err := Open(tc.path, good)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
		if got := db.Lookup(netip.MustParseAddr("203.0.113.7")); got.ASN != 64500 || got.Country != "" {
			t.Errorf("%s: the good database answers %+v", name, got)
		}
		if info := db.Info(); len(info) != 2 || info[0].Problem == "" || info[0].Path != tc.path {
			t.Errorf("%s: info %+v", name, info)
		}
	}
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	addr := netip.MustParseAddr("203.0.113.7")
	replace := func(iso string) {
		writeMMDB(t, path+".new", "GeoLite2-Country", map[string]mmdbtype.Map{"203.0.113.0/24": country(iso)})
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	replace("NL")
	db, err := Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step, iso string, wantChanged, wantErr bool) {
		t.Helper()
		changed, err := db.Reload()
		if changed != wantChanged || (err != nil) != wantErr {
			t.Errorf("%s: changed %t, error %v", step, changed, err)
		}
		if got := db.Lookup(addr).Country; got != iso {
			t.Errorf("%s: country %q, want %q", step, got, iso)
		}
	}
	expect("nothing new", "NL", false, false)
	replace("BE")
	expect("replaced", "BE", true, false)
	if err := os.Truncate(path, 100); err != nil { // in place, under our feet
		t.Fatal(err)
	}
	expect("cut off", "BE", false, true)
	expect("still cut off, said before", "BE", false, false)
	if p := db.Info()[0].Problem; !strings.Contains(p, "last good one stays in use") {
		t.Errorf("problem %q", p)
	}
	os.Remove(path)
	expect("gone", "BE", false, true)
	expect("still gone", "BE", false, false)
	replace("LU")
	expect("mended", "LU", true, false)
	if p := db.Info()[0].Problem; p != "" {
		t.Errorf("problem %q", p)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	db, err := Open(path, "")
	if err == nil {
		t.Fatal("a missing file is no error")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reports := make(chan error)
	go func() {
		defer close(reports)
		db.Watch(ctx, time.Millisecond, func(err error) { reports <- err; cancel() })
	}()
	writeMMDB(t, path+".new", "GeoLite2-Country", map[string]mmdbtype.Map{"203.0.113.0/24": country("NL")})
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if err := <-reports; err != nil {
		t.Error(err)
	}
	for range reports { // Watch ends with its context
	}
	if got := db.Lookup(netip.MustParseAddr("203.0.113.7")).Country; got != "NL" {
		t.Errorf("country %q", got)
	}
}

const torHead = `# Generated: Thu, 25 Jun 2026 04:33:59 GMT
# Vendor:    IPFire Project
# License:   CC BY-SA 4.0
`

// useFolder makes dir the place of the database that comes with the program.
func useFolder(t *testing.T, v4, v6 string) string {
	t.Helper()
	dir := t.TempDir()
	for name, s := range map[string]string{"geoip": v4, "geoip6": v6} {
		if s == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := Folders
	Folders = []string{filepath.Join(dir, "none"), dir}
	t.Cleanup(func() { Folders = old })
	return dir
}

func TestShipped(t *testing.T) {
	dir := useFolder(t, torHead+`0,9,AA
16777216,16777471,AU
16777472,16777727,AU
16777728,16777983,??
16778240,16778495,CN
4294967040,4294967295,ZZ
`, torHead+`2001:209::,2001:217:ffff:ffff:ffff:ffff:ffff:ffff,AU
2001:218::,2001:218::ffff,JP
ffff::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,ZZ
`)
	db, err := Open("", "")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"0.0.0.0": "AA", "0.0.0.9": "AA", "0.0.0.10": "", "0.255.255.255": "",
		"1.0.0.0": "AU", "1.0.0.255": "AU", "1.0.1.0": "AU", "1.0.1.255": "AU", "1.0.2.0": "", "1.0.2.255": "",
		"1.0.3.0": "", "1.0.4.0": "CN", "1.0.4.255": "CN", "1.0.5.0": "", "255.255.254.255": "", "255.255.255.0": "ZZ", "255.255.255.255": "ZZ",
		"::ffff:1.0.0.0": "AU",
		"::":             "", "2001:208:ffff::": "", "2001:209::": "AU", "2001:217:ffff:ffff:ffff:ffff:ffff:ffff": "AU",
		"2001:218::": "JP", "2001:218::ffff": "JP", "2001:218::1:0": "",
		"fffe::": "", "ffff::": "ZZ", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "ZZ",
	} {
		if got := db.Lookup(netip.MustParseAddr(addr)).Country; got != want {
			t.Errorf("%s is in %q, want %q", addr, got, want)
		}
	}
	i := db.Info()
	if len(i) != 1 || i[0].Path != filepath.Join(dir, "geoip") || i[0].Source != "IPFire Project, CC BY-SA 4.0" || i[0].Built.Format(time.DateOnly) != "2026-06-25" {
		t.Errorf("info %+v", i)
	}
}

func TestShippedDamaged(t *testing.T) {
	for name, v4 := range map[string]string{
		"cut in a line":    "16777216,16777471,AU\n16777472,167",
		"cut in the end":   "16777216,16777471,AU\n16777472,16777727,AU",
		"no ranges":        torHead,
		"not in order":     "16777216,16777471,AU\n16777210,16777215,CN\n",
		"overlap":          "16777216,16777471,AU\n16777471,16777727,CN\n",
		"upside down":      "16777216,16777215,AU\n",
		"behind the end":   "4294967040,4294967295,ZZ\n1,2,AA\n",
		"html":             "<html></html>\n",
		"address too long": "16777216,99999999999,AU\n",
		"names":            "16777216,16777471,Australia\n",
	} {
		useFolder(t, v4, "")
		db, err := Open("", "")
		if err == nil || !strings.Contains(err.Error(), "geoip") || !strings.Contains(err.Error(), "tor-geoipdb") {
			t.Errorf("%s: error %v", name, err)
		}
		if got := db.Lookup(netip.MustParseAddr("1.0.0.0")); got != (Origin{}) {
			t.Errorf("%s: answers %+v", name, got)
		}
	}
}

// Without any database nothing is known, nothing fails, and status says so.
func TestNoDatabase(t *testing.T) {
	useFolder(t, "", "")
	db, err := Open("", "")
	if err != nil {
		t.Errorf("error %v", err)
	}
	if got := db.Lookup(netip.MustParseAddr("1.0.0.0")); got != (Origin{}) {
		t.Errorf("answers %+v", got)
	}
	if i := db.Info(); len(i) != 1 || !strings.Contains(i[0].Problem, "geo.database") {
		t.Errorf("info %+v", i)
	}
}

// The database that comes with the program, as installed: at both ends of every
// range, and just outside, our table says what the file says.
func TestRealShipped(t *testing.T) {
	if testing.Short() {
		t.Skip("all of the real database in one goroutine: -short (make race) leaves that to make test")
	}
	db, err := Open("", "")
	if err != nil {
		t.Fatal(err)
	}
	paths := db.country.files
	if len(paths) == 0 {
		t.Skip("geoip and geoip6 of tor-geoipdb are not installed (scripts/deps does)")
	}
	for _, path := range paths {
		checkRanges(t, db, path)
	}
}

func checkRanges(t *testing.T, db *DB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var end netip.Addr // of the range before
	n := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) != 3 {
			continue
		}
		n++
		want := canonicalCountry(strings.TrimPrefix(f[2], "??"))
		first, last := addrOf(t, f[0]), addrOf(t, f[1])
		for _, a := range []netip.Addr{first, last} {
			if got := db.Lookup(a).Country; got != want {
				t.Fatalf("%s: %s is in %q, want %q", path, a, got, want)
			}
		}
		if end.IsValid() && end.Next() != first {
			for _, a := range []netip.Addr{end.Next(), first.Prev()} {
				if got := db.Lookup(a).Country; got != "" {
					t.Fatalf("%s: %s lies between ranges and is in %q", path, a, got)
				}
			}
		}
		end = last
	}
	if n < 100_000 {
		t.Errorf("%s: %d ranges only", path, n)
	}
}

func addrOf(t *testing.T, s string) netip.Addr {
	t.Helper()
	if strings.Contains(s, ":") {
		return netip.MustParseAddr(s)
	}
	var n uint32
	for _, c := range s {
		n = n*10 + uint32(c-'0')
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func FuzzTor(f *testing.F) {
	f.Add([]byte(torHead+"16777216,16777471,AU\n16777472,16777727,??\n"), uint32(16777217))
	f.Add([]byte("2001:209::,2001:217::,AU\n"), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, addr uint32) {
		db := newTor()
		if err := db.read(b); err != nil {
			return
		}
		var o Origin
		db.lookup(netip.AddrFrom4([4]byte{byte(addr >> 24), byte(addr >> 16), byte(addr >> 8), byte(addr)}), &o)
		for i := 1; i < len(db.v4.start); i++ {
			if db.v4.start[i-1] >= db.v4.start[i] {
				t.Fatalf("starts are not in order: %v", db.v4.start)
			}
		}
	})
}

func BenchmarkShipped(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	db, err := Open("", "")
	if err != nil || len(db.country.files) == 0 {
		b.Skip("geoip and geoip6 of tor-geoipdb are not installed (scripts/deps does)")
	}
	load := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for name, bits := range map[string]func(i uint32) netip.Addr{
		"v4": func(i uint32) netip.Addr {
			return netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		},
		"v6": func(i uint32) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20 | byte(i>>30), byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		},
	} {
		b.Run(name, func(b *testing.B) {
			i := uint32(1)
			for b.Loop() {
				i = i*1664525 + 1013904223
				db.Lookup(bits(i))
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
			b.ReportMetric(float64(load.Milliseconds()), "ms-load")
		})
	}
}
