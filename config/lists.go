package config

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CheckNames are the checks that [checks.set] knows; smtp/reply has what they
// look for.
var CheckNames = []string{
	"history", "early_talk", "pipelining", "bare_line_ends", "command_order", "geo",
	"rdns_missing", "rdns_error", "rdns_mismatch", "rdns_generic", "rdns_generic_cc", "rdns_dynamic", "dnsbl", "rhsbl",
	"helo_ours", "helo_address", "helo_literal", "helo_unresolvable", "tls_required",
	"sender_nxdomain", "sender_null_mx", "sender_no_mx", "sender_domain_error", "sender_is_recipient", "sender_local",
	"spf_fail", "spf_softfail", "spf_temperror", "spf_permerror",
	"dkim_fail", "dmarc_reject", "dmarc_quarantine", "dmarc_temperror", "no_author",
}

func checkName(name string) (what, hint string) {
	if slices.Contains(CheckNames, name) {
		return "", ""
	}
	hint = "the checks are " + list(CheckNames)
	if near := nearest(name, CheckNames); near != "" {
		hint = "did you mean " + near + "?"
	}
	return "there is no check " + name, hint
}

// place is a country or a network.
func place(name string) (what, hint string) {
	if as, ok := strings.CutPrefix(name, "AS"); ok {
		if n, err := strconv.ParseUint(as, 10, 32); err == nil && n > 0 {
			return "", ""
		}
	}
	if len(name) == 2 && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return "", ""
	}
	return quote(name) + " is neither a country nor a network", `write the two capital letters of ISO 3166, or "AS" and the number`
}

// places holds countries and networks, which may be written small.
func places(v any) (what, hint string) {
	list := *v.(*[]string)
	for i, name := range list {
		list[i] = strings.ToUpper(name)
		if what, _ = place(list[i]); what != "" {
			_, hint = place("")
			return quote(name) + strings.TrimPrefix(what, quote(list[i])), hint
		}
	}
	return "", ""
}

// keywords holds words that are looked for in names of hosts.
func keywords(v any) (what, hint string) {
	for _, w := range *v.(*[]string) {
		if strings.Trim(strings.ToLower(w), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(w, "-") == "" {
			return quote(w) + " is no word that a host's name can hold", "write letters, digits and hyphens, such as dynamic"
		}
	}
	return "", ""
}

func zone(v any) (what, hint string) {
	s := v.(*string)
	*s = strings.ToLower(strings.Trim(*s, "."))
	if !strings.Contains(*s, ".") || len(*s) > 180 || strings.ContainsAny(*s, " /:@") {
		return "this is no zone", "write the name that the list is asked under, such as zen.spamhaus.org" // without it: it may hold a key
	}
	return "", ""
}

// Answers is what a list may answer: in each of the four numbers, from Low to
// High.
type Answers struct{ Low, High [4]uint8 }

// ParseAnswers reads 127.0.0.2, 127.0.0.4-7 or 127.0.*.3.
func ParseAnswers(s string) (a Answers, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 || parts[0] != "127" {
		return a, fmt.Errorf("%q is no answer of a list", s)
	}
	for i, part := range parts {
		low, high, isRange := strings.Cut(part, "-")
		switch {
		case part == "*":
			low, high = "0", "255"
		case !isRange:
			high = low
		}
		l, errLow := strconv.ParseUint(low, 10, 8)
		h, errHigh := strconv.ParseUint(high, 10, 8)
		if errLow != nil || errHigh != nil || l > h {
			return a, fmt.Errorf("%q is no answer of a list", s)
		}
		a.Low[i], a.High[i] = uint8(l), uint8(h)
	}
	return a, nil
}

func answers(name string) (what, hint string) {
	if _, err := ParseAnswers(name); err != nil {
		return err.Error(), `write "127.0.0.2", "127.0.0.4-7" or "127.0.*.3"`
	}
	return "", ""
}

// feedSource is where a feed comes from.
func feedSource(v any) (what, hint string) {
	s := *v.(*string)
	if strings.HasPrefix(s, "/") {
		return "", ""
	}
	if u, err := url.Parse(s); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		return "", ""
	}
	return quote(s) + " is neither an address of the web nor a path", "write https://… or a path that begins with /"
}

// Providers are the sets that are known by a word.
var Providers = []string{"google", "microsoft", "yahoo", "apple"}

// providerNames holds words of Providers, and domains.
func providerNames(v any) (what, hint string) {
	list := *v.(*[]string)
	for i, name := range list {
		list[i] = strings.ToLower(strings.Trim(name, "."))
		if !slices.Contains(Providers, list[i]) && !strings.Contains(list[i], ".") {
			return quote(name) + " is no provider that is known by a word", "write " + strings.Join(Providers, ", ") + ", or a domain that has an SPF record"
		}
	}
	return "", ""
}
