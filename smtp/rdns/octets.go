package rdns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// address names the form in which the address stands in the name, "" if it
// does not. Names made of some other address are of the same kind: those of a
// line that has since moved.
func (n name) address(addr netip.Addr) string {
	addr = addr.Unmap()
	if addr.Is4() {
		if p := n.octets(addr.As4()); p != "" {
			return p
		}
	} else if addr.Is6() {
		if p := n.nibbles(addr.As16()); p != "" {
			return p
		}
	}
	return n.anyAddress()
}

// octets finds an IPv4 address: all of it in any order, or three octets of it
// beside one another, the last among them.
func (n name) octets(o [4]byte) string {
	values := n.values()
	for i := range values {
		if i+4 <= len(values) && sameOctets(values[i:i+4], o[:]) {
			return "octets"
		}
		if i+3 <= len(values) && threeOf(values[i:i+3], o) {
			return "octets-3"
		}
	}
	for _, d := range n.numbers {
		if glued(d.text, o[:], 6) || glued(d.text, o[1:], 5) {
			return "glued"
		}
		if d.text == strconv.FormatUint(uint64(o[0])<<24|uint64(o[1])<<16|uint64(o[2])<<8|uint64(o[3]), 10) {
			return "integer"
		}
	}
	bare := bareHex(n.full)
	if strings.Contains(bare, hex.EncodeToString(o[:])) || strings.Contains(bare, hex.EncodeToString(reversed(o[:]))) {
		return "hex"
	}
	return ""
}

// lastTwo finds the last two octets beside one another. That alone is also how
// farms of mail hosts are numbered.
func (n name) lastTwo(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.Is4() || n.numberedByM() {
		return false
	}
	o := addr.As4()
	a, b := int(o[2]), int(o[3])
	if a+b < 20 {
		return false // 1-2 may number anything
	}
	values := n.values()
	for i := 0; i+2 <= len(values); i++ {
		if v := values[i : i+2]; v[0] == a && v[1] == b || v[0] == b && v[1] == a {
			return true
		}
	}
	return slices.ContainsFunc(n.numbers, func(d run) bool { return glued(d.text, o[2:], 4) })
}

// glued says whether digits are the octets, forth or back, without anything
// between them, and enough of them to mean it.
func glued(digits string, octets []byte, least int) bool {
	if len(digits) < least {
		return false
	}
	return digits == join(octets) || digits == join(reversed(octets))
}

func join(octets []byte) string {
	var b []byte
	for _, o := range octets {
		b = strconv.AppendUint(b, uint64(o), 10)
	}
	return string(b)
}

func reversed(octets []byte) []byte {
	back := slices.Clone(octets)
	slices.Reverse(back)
	return back
}

// sameOctets says whether values are the octets in any order: dialling pools,
// zones and subnets put the last one first, or the first two behind.
func sameOctets(values []int, octets []byte) bool {
	var count [256]int8
	for _, o := range octets {
		count[o]++
	}
	for _, v := range values {
		if v < 0 || count[v] == 0 {
			return false
		}
		count[v]--
	}
	return true
}

// threeOf says whether three values are three of the octets in any order, the
// last among them, and not all so small that they may mean anything.
func threeOf(values []int, o [4]byte) bool {
	if max(values[0], values[1], values[2]) < 20 {
		return false
	}
	return sameOctets(values, o[1:]) ||
		sameOctets(values, []byte{o[0], o[1], o[3]}) ||
		sameOctets(values, []byte{o[0], o[2], o[3]})
}

// anyAddress finds a whole address in the name, whatever the host's own is.
func (n name) anyAddress() string {
	for i, d := range n.numbers {
		if len(d.text) == 12 && octetsOf(d.text)[0] > 0 {
			return "padded"
		}
		if i+4 <= len(n.numbers) && n.quad(n.numbers[i:i+4]) {
			return "quad"
		}
	}
	return n.anyNibbles()
}

// quad says whether four numbers are an address: octets with one character
// between each two, which is no letter unless it is the same each time: 1x2x3x4
// is one, au3c9n1y3j is a word at random.
func (n name) quad(four []run) bool {
	first := n.full[four[0].at+len(four[0].text)]
	for i, d := range four {
		if octet(d.text) < 0 || i > 0 && d.at != four[i-1].at+len(four[i-1].text)+1 {
			return false
		}
		if i > 0 && kind(n.full[d.at-1]) == 'a' && n.full[d.at-1] != first {
			return false
		}
	}
	front, back := octet(four[0].text), octet(four[3].text)
	return front > 0 && front < 224 || back > 0 && back < 224
}
