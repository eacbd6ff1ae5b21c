package rdns

import (
	"encoding/hex"
	"strings"
)

// enoughNibbles is how many hex digits in a row of an IPv6 address make its
// presence in a name: a /48, or an interface identifier less its first group.
const enoughNibbles = 12

// nibbles finds an IPv6 address: in groups with or without their zeros, in one
// piece, or nibble by nibble as in ip6.arpa.
func (n name) nibbles(a [16]byte) string {
	bare := bareHex(n.full)
	forth := hex.EncodeToString(a[:])
	back := backwards(forth)
	for i := 0; i+enoughNibbles <= len(forth); i++ {
		f, b := forth[i:i+enoughNibbles], back[i:i+enoughNibbles]
		if !mostlyZero(f) && strings.Contains(bare, f) || !mostlyZero(b) && strings.Contains(bare, b) {
			return "nibbles"
		}
	}
	if n.groups(a) {
		return "groups"
	}
	return ""
}

// groups finds four groups of the address in a row, written without leading
// zeros, or three and what "--" leaves out.
func (n name) groups(a [16]byte) bool {
	var want []string
	for i := 0; i < 16; i += 2 {
		if g := strings.TrimLeft(hex.EncodeToString(a[i:i+2]), "0"); g != "" {
			want = append(want, g)
		}
	}
	if len(want) < 3 {
		return false
	}
	found := 0
	for _, chunk := range strings.FieldsFunc(n.full, separator) {
		chunk = strings.TrimLeft(chunk, "0")
		switch {
		case chunk == "":
		case found < len(want) && chunk == want[found]:
			found++
		case found > 0 && found < 3:
			found = 0
			if chunk == want[0] {
				found = 1
			}
		}
	}
	return found >= 3 && found >= min(4, len(want))
}

func separator(r rune) bool { return r == '-' || r == '.' || r == '_' || r == ':' }

// anyNibbles finds an IPv6 address in the name, whatever the host's own is:
// sixteen single nibbles, or six groups of global unicast space (2000::/3).
func (n name) anyNibbles() string {
	single, groups := 0, 0
	for _, chunk := range strings.FieldsFunc(n.full, separator) {
		switch hexed := isHex(chunk); {
		case hexed && len(chunk) == 1:
			single++
			groups++
		case hexed && len(chunk) <= 4 && (groups > 0 || len(chunk) == 4 && (chunk[0] == '2' || chunk[0] == '3')):
			groups++
			single = 0
		default:
			single, groups = 0, 0
		}
		if single >= 16 {
			return "nibbles"
		}
		if groups >= 6 && single < 6 {
			return "groups"
		}
	}
	return ""
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// bareHex is s without separators.
func bareHex(s string) string {
	return strings.Map(func(r rune) rune {
		if separator(r) {
			return -1
		}
		return r
	}, s)
}

func backwards(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// mostlyZero says whether a row of nibbles is too plain to mean anything.
func mostlyZero(s string) bool {
	return strings.Count(s, "0") > enoughNibbles/2
}
