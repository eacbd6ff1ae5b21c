// Package rdns tells from a reverse-DNS name what kind of host has it: a mail
// host that somebody named, or a line that a provider numbered (R-BW-09 to
// R-BW-14).
//
//	custom   a name of its own, or of a mail host that has its address in it
//	generic  made of the address, or in the words of an access network
//	dynamic  as generic, and one of the operator's keywords stands in it
//	none     no name
//
// It goes by how such names are made, not by who made them: octets in decimal,
// padded, glued, in hex, in another order or in part; words for access lines
// at label borders; words that speak for a mail host. What is left is a short
// table of providers whose names follow no rule. Nothing is looked up: the
// caller says which name the address has, and whether it resolves back.
package rdns

import (
	"net/netip"
	"slices"
	"strings"
)

// Class is what kind of name it is.
type Class string

// The classes.
const (
	None    Class = "none"
	Custom  Class = "custom"
	Generic Class = "generic"
	Dynamic Class = "dynamic"
)

// Verdict is what a name says. The flags are facts for the catalogue of
// refusals, and are set for generic and dynamic names only: a mail host is
// free to carry its address in its name.
type Verdict struct {
	Class   Class
	Pattern string // what decided, as records show it: "octets", "word:dsl"; "" for plain custom names
	Address bool   // the address stands in the name (R-BW-E09)
	Country bool   // the name ends in the top-level domain of a country (R-BW-E08)
	Keyword string // which keyword stands in the name (R-BW-10)
}

// DefaultKeywords are the words of R-BW-10.
var DefaultKeywords = []string{"dynamic", "pool", "dialup"}

// Classify judges a name. The zero address stands for one that is not known.
// A keyword counts at label borders: where no letter is beside it, so that
// pool-1-2-3-4.x has the keyword pool and liverpool.example has none.
func Classify(host string, addr netip.Addr, keywords []string) Verdict {
	n := parse(host)
	if n.full == "" {
		return Verdict{Class: None}
	}
	address := n.address(addr)
	role := n.role()
	access := n.access()
	keyword := n.keyword(keywords, address != "")
	if address != "" && role != "" && access.text == "" && keyword == "" {
		return Verdict{Class: Custom, Pattern: "mailhost:" + role}
	}
	v := Verdict{Class: Generic, Address: address != "", Country: n.country(), Keyword: keyword}
	switch {
	case keyword != "" && (address != "" || role == ""):
		v.Class, v.Pattern = Dynamic, "keyword:"+keyword
	case address != "":
		v.Pattern = address
	case role != "":
		return Verdict{Class: Custom, Pattern: "mailhost:" + role}
	default:
		if v.Pattern = n.habit(addr, access); v.Pattern == "" {
			return Verdict{Class: Custom}
		}
	}
	return v
}

// habit finds what names of access lines have in common beside the address;
// access is the word for such a line in it, if there is one.
func (n name) habit(addr netip.Addr, access run) string {
	if p := n.provider(); p != "" {
		return "provider:" + p
	}
	if p := n.placeholder(); p != "" {
		return "word:" + p
	}
	if n.server() {
		return ""
	}
	digits, deep, line := n.digits(), n.org() >= 2, n.line()
	two := n.lastTwo(addr)
	switch {
	case access.text != "" && (access.label > 0 || digits > 0 || n.onlyAccess()):
		return "word:" + access.text
	case deep && digits > 0 && n.lineCompany() != "":
		return "word:" + n.lineCompany()
	case two && (line != "" || deep || n.bare(0)):
		return "octets-2"
	case line != "" && (digits >= 4 || deep && n.lastOctet(addr)):
		return "word:" + line
	case deep && n.numbered(addr) || n.serial() || n.telephone():
		return "numbers"
	case !addr.IsValid() && n.hexed():
		return "hex"
	}
	return ""
}

// numbered says whether the first label, and perhaps the next, is little but
// numbers.
func (n name) numbered(addr netip.Addr) bool {
	first := n.numbersIn(0)
	total, longest := 0, 0
	for _, d := range first {
		total += len(d)
		longest = max(longest, len(d))
	}
	if len(first) == 1 && first[0] == n.labels[0] {
		return longest >= 4 || n.lastOctet(addr)
	}
	return longest >= 5 || len(first) >= 2 && total >= 6 || longest >= 4 && n.digits() >= 8
}

// serial says whether the host's label is a serial number: a letter or a few,
// and at least seven digits.
func (n name) serial() bool {
	letters := strings.TrimRight(n.labels[0], "0123456789")
	return n.org() == 1 && len(letters) <= 3 && len(n.labels[0])-len(letters) >= 7
}

// bare says whether a label has no letters.
func (n name) bare(label int) bool {
	return !slices.ContainsFunc(n.words, func(w run) bool { return w.label == label })
}

// telephone says whether a label below the domain is one long number, such as
// a subscriber's or a circuit's.
func (n name) telephone() bool {
	return slices.ContainsFunc(n.numbers, func(d run) bool { return d.label < n.org() && len(d.text) >= 10 && n.labels[d.label] == d.text })
}

// hexed says whether the host's label ends in eight hex digits, as an address
// has them. Where the address is known it is looked for itself.
func (n name) hexed() bool {
	l := n.labels[0]
	if len(l) < 8 || len(l) > 11 {
		return false
	}
	tail := l[len(l)-8:]
	return isHex(tail) && strings.ContainsAny(tail, "abcdef") && strings.ContainsAny(tail, "0123456789")
}

func (n name) lastOctet(addr netip.Addr) bool {
	if !addr.Is4() && !addr.Is4In6() {
		return false
	}
	o := addr.As16()
	return slices.Contains(n.values(), int(o[15]))
}
