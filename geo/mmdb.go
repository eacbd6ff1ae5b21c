package geo

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"
)

// mmdb is a database of a type that geoip2-golang knows.
type mmdb struct {
	reader  *geoip2.Reader
	raw     *maxminddb.Reader // the same file
	country bool              // else ASN
}

// flat is any other MaxMind DB file, whose records name country or AS directly.
type flat struct{ reader *maxminddb.Reader }

// transition are IPv6 addresses that such a file has under the IPv4 address in
// them. Who sends from one is not told by that: they are nowhere.
var transition = []netip.Prefix{
	netip.MustParsePrefix("::/96"),     // IPv4-compatible
	netip.MustParsePrefix("2001::/32"), // Teredo
	netip.MustParsePrefix("2002::/16"), // 6to4
}

func inTransition(a netip.Addr) bool {
	for _, p := range transition {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// openMMDB reads a MaxMind DB file. The file is not mapped: truncating a
// mapped file would kill the process at its next look-up.
func openMMDB(files []string) (source, error) {
	path := files[0]
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	raw, err := maxminddb.OpenBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%s is no MaxMind DB file: %w", path, err)
	}
	if err := raw.Verify(); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	reader, err := geoip2.OpenBytes(b)
	var unknown geoip2.UnknownDatabaseTypeError
	switch {
	case errors.As(err, &unknown):
		return openFlat(path, raw)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return openTyped(path, reader, raw)
}

// openTyped finds out by asking what reader is for: its type is not exported.
func openTyped(path string, reader *geoip2.Reader, raw *maxminddb.Reader) (source, error) {
	some := netip.IPv4Unspecified()
	if _, err := reader.Country(some); err == nil {
		return mmdb{reader, raw, true}, nil
	}
	if _, err := reader.ASN(some); err == nil {
		return mmdb{reader, raw, false}, nil
	}
	return nil, fmt.Errorf("%s is of type %s, which has neither countries nor AS numbers", path, reader.Metadata().DatabaseType)
}

func (m mmdb) lookup(addr netip.Addr, o *Origin) {
	if inTransition(addr) {
		return
	}
	if m.country {
		if c, err := m.reader.Country(addr); err == nil {
			o.overlay(Origin{Country: canonicalCountry(cmp.Or(c.Country.ISOCode, c.RegisteredCountry.ISOCode))})
		}
		return
	}
	if a, err := m.reader.ASN(addr); err == nil {
		o.ASN, o.ASName = uint32(a.AutonomousSystemNumber), a.AutonomousSystemOrganization
	}
}

func (m mmdb) starts(f family) iter.Seq2[u128, Origin]  { return networks(m.raw, f, m.lookup) }
func (f flat) starts(of family) iter.Seq2[u128, Origin] { return networks(f.reader, of, f.lookup) }

// networks walks through a file. Neighbours have one record more often than
// not, and lookup is asked once for each record.
func networks(file *maxminddb.Reader, f family, lookup func(netip.Addr, *Origin)) iter.Seq2[u128, Origin] {
	whole := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if f == 6 {
		whole = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if f == 6 && file.Metadata.IPVersion == 4 {
		return func(func(u128, Origin) bool) {}
	}
	return func(yield func(u128, Origin) bool) {
		known := make(map[uintptr]Origin)
		next, open := u128{}, true // the first address behind the network before
		for result := range file.NetworksWithin(whole) {
			p := result.Prefix()
			if p.Addr().Is4() != (f == 4) || inTransition(p.Addr()) {
				continue
			}
			o, ok := known[result.Offset()]
			if !ok {
				lookup(p.Addr(), &o)
				known[result.Offset()] = o
			}
			first := keyOf(p.Addr())
			if open && next != first && !yield(next, Origin{}) || !yield(first, o) {
				return
			}
			next, open = first.behind(keyBits(f, p.Bits()))
		}
		if open && (f == 6 || next.lo < 1<<32) {
			yield(next, Origin{})
		}
	}
}

// keyBits is how many bits of a 128-bit key a prefix length leaves open.
func keyBits(f family, bits int) int {
	if f == 4 {
		return 32 - bits
	}
	return 128 - bits
}

func (m mmdb) info() Info { return infoOf(m.reader.Metadata()) }

func infoOf(meta maxminddb.Metadata) Info {
	source := meta.Description["en"]
	if source == "" {
		source = meta.DatabaseType
	}
	return Info{Type: meta.DatabaseType, Source: source, Built: meta.BuildTime().UTC()}
}

// flatRecord has the keys that flat databases use. ASNumber is the number in
// @ip-location-db, ASN the text "AS64500" in ipinfo.
type flatRecord struct {
	CountryCode string `maxminddb:"country_code"`
	ASNumber    uint32 `maxminddb:"autonomous_system_number"`
	ASOrg       string `maxminddb:"autonomous_system_organization"`
	ASN         string `maxminddb:"asn"`
	ASName      string `maxminddb:"as_name"`
}

func (r *flatRecord) origin() Origin {
	o := Origin{Country: canonicalCountry(strings.ToUpper(r.CountryCode)), ASN: r.ASNumber, ASName: r.ASOrg}
	if o.ASN == 0 {
		digits := strings.TrimPrefix(strings.ToUpper(r.ASN), "AS")
		if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
			o.ASN, o.ASName = uint32(n), r.ASName
		}
	}
	return o
}

// openFlat accepts raw if the first networks have a record with a known key.
func openFlat(path string, raw *maxminddb.Reader) (source, error) {
	looked := 0
	for result := range raw.Networks() {
		var r flatRecord
		if result.Decode(&r) == nil && r.origin() != (Origin{}) {
			return flat{raw}, nil
		}
		if looked++; looked == 1000 {
			break
		}
	}
	return nil, fmt.Errorf("%s is of type %s, which has neither country_code nor an AS number: use a country or ASN database", path, raw.Metadata.DatabaseType)
}

// lookup adds what the record has: a flat file may know both.
func (f flat) lookup(addr netip.Addr, o *Origin) {
	var r flatRecord
	if inTransition(addr) {
		return
	}
	if f.reader.Lookup(addr).Decode(&r) != nil {
		return
	}
	found := r.origin()
	if found.Country != "" {
		o.Country = found.Country
	}
	if found.ASN != 0 {
		o.ASN, o.ASName = found.ASN, found.ASName
	}
}

func (f flat) info() Info { return infoOf(f.reader.Metadata) }
