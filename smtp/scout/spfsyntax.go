package scout

import (
	"net/netip"
	"regexp"
	"strings"
)

// The grammar of RFC 7208 section 12, as far as regular expressions go.
const (
	spfLiteral = `[!-$&-~]`
	spfExpand  = `(?:%\{[slodiphv](?:0*[1-9][0-9]*)?r?[-.+,/_=]*\}|%[%_-])`
	// c, r and t are for explanations only (section 7.2); what a modifier that nobody knows means by them, nobody knows.
	spfAnyExpand = `(?:%\{[slodiphvcrt](?:0*[1-9][0-9]*)?r?[-.+,/_=]*\}|%[%_-])`
	spfTop       = `(?:[a-z0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9-]*[a-z0-9])`
	spfDomain    = `(?:` + spfLiteral + `|` + spfExpand + `)*(?:\.` + spfTop + `\.?|` + spfExpand + `)`
	spfBits4     = `/(?:[0-9]|[12][0-9]|3[0-2])`
	spfBits6     = `/(?:[0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])`
)

var (
	spfMechanism = regexp.MustCompile(`(?i)^[-+?~]?(?:all|include:` + spfDomain + `|exists:` + spfDomain + `|ptr(?::` + spfDomain + `)?|` +
		`(?:a|mx)(?::` + spfDomain + `)?(?:` + spfBits4 + `)?(?:/` + spfBits6 + `)?)$`)
	spfNetwork  = regexp.MustCompile(`(?i)^[-+?~]?(?:ip4:([0-9.]+)(?:` + spfBits4 + `)?|ip6:([0-9a-f:.]+)(?:` + spfBits6 + `)?)$`)
	spfModifier = regexp.MustCompile(`(?i)^(?:(redirect|exp)=` + spfDomain + `|([a-z][a-z0-9._-]*)=(?:` + spfLiteral + `|` + spfAnyExpand + `)*)$`)
)

// spfVersion says whether a text is a record of SPF (RFC 7208 section 4.5).
func spfVersion(text string) bool {
	const version = "v=spf1"
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) && (len(text) == len(version) || text[len(version)] == ' ')
}

// badTerm is the first term of a record that the grammar does not have, "" if
// there is none. A mistake anywhere in a record makes all of it void (RFC 7208
// section 4.6); the library sees none behind the term that matches.
func badTerm(record string) string {
	var once [2]bool // redirect and exp (section 6)
	for i, term := range strings.Split(record, " ") {
		if i == 0 || term == "" || spfMechanism.MatchString(term) {
			continue
		}
		if m := spfNetwork.FindStringSubmatch(term); m != nil {
			if a, err := netip.ParseAddr(m[1] + m[2]); err == nil && a.Is4() == (m[1] != "") {
				continue
			}
			return term
		}
		m := spfModifier.FindStringSubmatch(term)
		if m == nil {
			return term
		}
		for j, name := range []string{"redirect", "exp"} {
			if strings.EqualFold(m[2], name) { // in the form of a modifier that nobody knows
				return term
			}
			if strings.EqualFold(m[1], name) {
				if once[j] {
					return term
				}
				once[j] = true
			}
		}
	}
	return ""
}
