package rdns

import (
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// maxName bounds what is looked at. RFC 1035 2.3.4 allows 255 octets on the
// wire, which are 253 characters.
const maxName = 253

// name is a host name taken apart. Its public suffix is left out: "mx" and
// "net.in" say nothing of the host.
type name struct {
	full    string
	suffix  string
	labels  []string // from the host down to the registered domain's own label
	words   []run    // of letters, in order
	numbers []run    // of digits, in order
}

// run is an unbroken row of letters or of digits.
type run struct {
	text  string
	label int // index in labels
	at    int // offset in the name
}

func parse(host string) name {
	host = strings.Trim(host, ".")
	if len(host) > maxName {
		host = host[:maxName]
	}
	n := name{full: strings.ToLower(host)}
	if n.full == "" {
		return n
	}
	if n.suffix = icannSuffix(n.full); isAccess(n.suffix) {
		n.suffix = "" // some name their lines below no domain at all: hn.kd.ny.adsl
	}
	rest := strings.TrimSuffix(strings.TrimSuffix(n.full, n.suffix), ".")
	if rest == "" {
		rest, n.suffix = n.full, ""
	}
	n.labels = strings.Split(rest, ".")
	n.runs(rest)
	return n
}

// icannSuffix is the part of a name below which anybody may register. A
// suffix of the list's private part (amazonaws.com) is the provider's domain
// here.
func icannSuffix(host string) string {
	for rest := host; ; {
		suffix, icann := publicsuffix.PublicSuffix(rest)
		if icann {
			return suffix
		}
		_, above, found := strings.Cut(suffix, ".")
		if !found {
			return suffix // no such top-level domain
		}
		rest = above
	}
}

func (n *name) runs(s string) {
	label := 0
	for i := 0; i < len(s); {
		k := kind(s[i])
		if k == 0 {
			if s[i] == '.' {
				label++
			}
			i++
			continue
		}
		j := i + 1
		for j < len(s) && kind(s[j]) == k {
			j++
		}
		r := run{s[i:j], label, i}
		if k == 'a' {
			n.words = append(n.words, r)
		} else {
			n.numbers = append(n.numbers, r)
		}
		i = j
	}
}

func kind(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z', c >= 0x80:
		return 'a'
	case '0' <= c && c <= '9':
		return '0'
	}
	return 0
}

// org is the index of the registered domain's own label, and how many labels
// are below it. A name without a suffix has none.
func (n name) org() int {
	if n.suffix == "" {
		return len(n.labels)
	}
	return len(n.labels) - 1
}

// country says whether the top-level domain is a country's. All of two letters
// are (ISO 3166), and so are most internationalized ones.
func (n name) country() bool {
	tld := n.full[strings.LastIndexByte(n.full, '.')+1:]
	return len(tld) == 2 || strings.HasPrefix(tld, "xn--")
}

// digits is how many there are below the registered domain.
func (n name) digits() int {
	sum := 0
	for _, d := range n.numbers {
		if d.label < n.org() {
			sum += len(d.text)
		}
	}
	return sum
}

func (n name) numbersIn(label int) []string {
	var in []string
	for _, d := range n.numbers {
		if d.label == label {
			in = append(in, d.text)
		}
	}
	return in
}

// values are the numbers of the name as octets, -1 for what is none. Nine
// padded digits are three octets.
func (n name) values() []int {
	var all []int
	for _, d := range n.numbers {
		all = append(all, octetsOf(d.text)...)
	}
	return all
}

func octetsOf(digits string) []int {
	if l := len(digits); l == 6 || l == 9 || l == 12 {
		var all []int
		for i := 0; i < l; i += 3 {
			v := octet(digits[i : i+3])
			if v < 0 {
				return []int{-1}
			}
			all = append(all, v)
		}
		return all
	}
	return []int{octet(digits)}
}

// octet is the value of up to three digits, -1 if that is none.
func octet(digits string) int {
	if len(digits) > 3 {
		return -1
	}
	v, err := strconv.Atoi(digits)
	if err != nil || v > 255 {
		return -1
	}
	return v
}
