package geo

import (
	"errors"
	"fmt"
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
	country bool // else ASN
}

// flat is any other MaxMind DB file, whose records name country or AS directly.
type flat struct{ reader *maxminddb.Reader }

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
	return openTyped(path, reader)
}

// openTyped finds out by asking what reader is for: its type is not exported.
func openTyped(path string, reader *geoip2.Reader) (source, error) {
	some := netip.IPv4Unspecified()
	if _, err := reader.Country(some); err == nil {
		return mmdb{reader, true}, nil
	}
	if _, err := reader.ASN(some); err == nil {
		return mmdb{reader, false}, nil
	}
	return nil, fmt.Errorf("%s is of type %s, which has neither countries nor AS numbers", path, reader.Metadata().DatabaseType)
}

func (m mmdb) lookup(addr netip.Addr, o *Origin) {
	if m.country {
		if c, err := m.reader.Country(addr); err == nil {
			o.Country = c.Country.ISOCode
			if o.Country == "" {
				o.Country = c.RegisteredCountry.ISOCode
			}
		}
		return
	}
	if a, err := m.reader.ASN(addr); err == nil {
		o.ASN, o.ASName = uint32(a.AutonomousSystemNumber), a.AutonomousSystemOrganization
	}
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
	o := Origin{Country: strings.ToUpper(r.CountryCode), ASN: r.ASNumber, ASName: r.ASOrg}
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
