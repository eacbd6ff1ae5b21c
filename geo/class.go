package geo

import (
	"fmt"
	"strconv"
	"strings"
)

// Class is what the packet program knows a country by: a number made of its
// two letters, the same for ever and on every machine, so that a database can
// be swapped, and a program upgraded, without a moment at which numbers and
// rules do not fit. Zero is no country.
type Class uint16

// maxClass is the highest Class: "99".
const maxClass = 36 * 36

// ClassOf gives the class of a country code. What is no code of two letters or
// digits has none.
func ClassOf(country string) Class {
	if len(country) != 2 {
		return 0
	}
	first, second := digit36(country[0]), digit36(country[1])
	if first < 0 || second < 0 {
		return 0
	}
	return Class(36*first + second + 1)
}

// digit36 is a letter's or digit's place; -1 where it is neither.
func digit36(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case '0' <= c && c <= '9':
		return int(c-'0') + 26
	}
	return -1
}

func (c Class) String() string {
	if c == 0 || c > maxClass {
		return ""
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return string([]byte{digits[(c-1)/36], digits[(c-1)%36]})
}

// Rule names a country or an autonomous system, as in geo.drop. One of the two
// is zero.
type Rule struct {
	Country string // ISO 3166-1 alpha-2
	ASN     uint32
}

// ParseRule reads "NL" or "AS64500", in any case. What its error says ends
// with what to write.
func ParseRule(s string) (Rule, error) {
	up := strings.ToUpper(strings.TrimSpace(s))
	if digits, ok := strings.CutPrefix(up, "AS"); ok && len(up) > 2 {
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 {
			return Rule{}, fmt.Errorf("%q is no AS number: write it as AS64500", s)
		}
		return Rule{ASN: uint32(n)}, nil
	}
	if _, ok := countryNames[canonicalCountry(up)]; !ok {
		return Rule{}, fmt.Errorf("%q is no country: write the two letters of ISO 3166-1, or AS64500 for a network", s)
	}
	return Rule{Country: canonicalCountry(up)}, nil
}

func (r Rule) String() string {
	if r.ASN != 0 {
		return fmt.Sprintf("AS%d", r.ASN)
	}
	return r.Country
}

// Matches says whether o is where the rule says.
func (r Rule) Matches(o Origin) bool {
	return r.ASN != 0 && r.ASN == o.ASN || r.Country != "" && r.Country == o.Country
}

// canonicalCountry takes the name that ISO 3166-1 has for a country: some data
// has the code that its top-level domain is under.
func canonicalCountry(code string) string {
	if code == "UK" {
		return "GB"
	}
	return code
}

// countryNames are the codes that a rule may name: ISO 3166-1, and what
// databases have besides (XK is Kosovo, EU and AP are regions).
var countryNames = func() map[string]struct{} {
	const codes = `AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR
BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI
FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS
IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA
RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT
TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW XK EU AP`
	names := make(map[string]struct{})
	for _, c := range strings.Fields(codes) {
		names[c] = struct{}{}
	}
	return names
}()
