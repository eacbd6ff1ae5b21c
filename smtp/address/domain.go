package address

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// profile maps U-labels as a look-up does (RFC 5891 section 5, UTS #46 without
// transitional mappings), and refuses what comes out as no host name.
var profile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.StrictDomainName(true),
	idna.VerifyDNSLength(true),
)

// cutDomain splits s behind the "@" and what a domain or an address literal can
// be made of; ParseDomain then says whether it is one.
func cutDomain(s string) (domain, rest string) {
	if !strings.HasPrefix(s, "@") {
		return "", s
	}
	if strings.HasPrefix(s, "@[") {
		if i := strings.IndexByte(s, ']'); i >= 0 {
			return s[:i+1], s[i+1:]
		}
		return s, ""
	}
	if i := strings.IndexAny(s, "> \t"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// ParseDomain returns the canonical form of a Domain or an address-literal
// (RFC 5321 sections 4.1.2 and 4.1.3): lower case, U-labels as A-labels.
func ParseDomain(s string, smtputf8 bool) (string, error) {
	switch {
	case !smtputf8 && !isASCII(s):
		return "", &Error{EightBit, "the domain needs SMTPUTF8"}
	case strings.HasPrefix(s, "["):
		return parseLiteral(s)
	case !isASCII(s):
		a, err := profile.ToASCII(s)
		if err != nil {
			return "", syntax("the domain is no internationalised name")
		}
		s = a
	}
	s = strings.ToLower(s)
	return s, checkDomain(s)
}

// checkDomain wants labels of letters, digits and inner hyphens. It lets the
// underscore pass, which is no host name's but is found in the names of real
// senders. A last label of digits alone would be an address without brackets.
func checkDomain(s string) error {
	if len(s) > MaxDomain {
		return syntax("the domain is too long")
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return syntax("the domain is malformed")
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return syntax("an address in place of a domain needs square brackets")
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// parseLiteral reads [192.0.2.1] and [IPv6:2001:db8::1]. The general form,
// [tag:content], has no registered tag but IPv6 and is refused.
func parseLiteral(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", syntax("the address literal has no closing bracket")
	}
	const tag = "IPv6:"
	if len(inner) > len(tag) && strings.EqualFold(inner[:len(tag)], tag) {
		a, err := netip.ParseAddr(inner[len(tag):])
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", syntax("the address literal is malformed")
		}
		return "[" + tag + a.String() + "]", nil
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || !a.Is4() {
		return "", syntax("the address literal is malformed")
	}
	return "[" + a.String() + "]", nil
}
