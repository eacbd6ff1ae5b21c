package enginetest

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"mailweir/geo"
)

// Worlds are two worlds that the client's networks are in. In both, 192.0.2.0/24
// and 2001:db8:1::/48 are of AS64500 and in NL, 198.51.100.0/24 and
// 2001:db8:2::/48 in DE; the lower half of 203.0.113.0/24 is in FR, the upper
// one in NL. All else is nowhere in the first; in the second 10.0.0.0/8 is in US
// and of AS64499, so that AS64500 has another number.
func Worlds(t testing.TB) [2]*geo.Tables {
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
