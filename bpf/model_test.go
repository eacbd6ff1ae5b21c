package bpf_test

import (
	"encoding/binary"
	"net/netip"
)

// model is what the packet program should do, written from the RFCs and the
// design and not from filter.c, in plain Go.
type model struct {
	ports   map[uint16]bool
	bans    map[netip.Prefix]bool // false: over, but still in the table
	allow   []netip.Prefix
	observe bool
}

// The reasons, in the order of the map counters.
const (
	notIP = iota
	vlan
	malformed
	local
	notTCP
	unprotected
	clean
	noPort
	allowed
	observed
	banned
	fromDenied // by country or network; only geo_test.go has any
	synLimit   // only limits_test.go has any of these
	flood
	explained
	reasonCount
)

var reasonNames = [reasonCount]string{
	"not_ip", "vlan", "malformed", "local", "not_tcp", "unprotected", "clean", "no_port", "allowed", "observed", "banned", "geo", "syn_limit", "flood", "explained",
}

// judge says how a frame ends.
func (m *model) judge(frame []byte) (reason int) {
	reason = m.classify(frame)
	if m.observe && (reason == banned || reason == malformed) {
		return observed
	}
	return reason
}

func (m *model) classify(frame []byte) int {
	typ, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	tags := 0
	for typ == 0x8100 || typ == 0x88a8 {
		if tags++; tags > 2 {
			return vlan
		}
		if len(rest) < 4 {
			return notIP
		}
		typ, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch typ {
	case 0x0800:
		return m.ip4(rest)
	case 0x86dd:
		return m.ip6(rest)
	}
	return notIP
}

// ip4 is RFC 791.
func (m *model) ip4(b []byte) int {
	if len(b) < 20 || b[0]>>4 != 4 {
		return malformed
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b)
	}
	if header < 20 || total < header || total > len(b) {
		return malformed
	}
	src := netip.AddrFrom4([4]byte(b[12:16]))
	if isLocal(src) {
		return local
	}
	if b[9] != 6 {
		return notTCP
	}
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return m.unknown(src)
	}
	return m.tcp(src, b[header:total])
}

// ip6 is RFC 8200.
func (m *model) ip6(b []byte) int {
	if len(b) < 40 || b[0]>>4 != 6 {
		return malformed
	}
	next, payload := b[6], b[40:]
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length > len(payload) {
		return malformed
	}
	if length > 0 || next != 0 {
		payload = payload[:length]
	}
	src := netip.AddrFrom16([16]byte(b[8:24]))
	if isLocal(src) {
		return local
	}
	for walked := 0; extension[next]; walked++ {
		if walked == 6 || len(payload) < 8 {
			return m.unknown(src)
		}
		kind, size := next, (int(payload[1])+1)*8
		next = payload[0]
		switch kind {
		case 44:
			size = 8
			if binary.BigEndian.Uint16(payload[2:])>>3 != 0 {
				if next == 6 || extension[next] {
					return m.unknown(src)
				}
				return notTCP
			}
		case 51:
			size = (int(payload[1]) + 2) * 4
		}
		if len(payload) < size {
			return m.unknown(src)
		}
		payload = payload[size:]
	}
	if next != 6 {
		return notTCP
	}
	return m.tcp(src, payload)
}

// extension are the headers that may stand before TCP.
var extension = [256]bool{0: true, 43: true, 44: true, 51: true, 60: true}

func (m *model) tcp(src netip.Addr, b []byte) int {
	if len(b) < 4 {
		return m.unknown(src)
	}
	if !m.ports[binary.BigEndian.Uint16(b[2:])] {
		return unprotected
	}
	return m.source(src, clean)
}

// unknown is a packet without a port: bans apply.
func (m *model) unknown(src netip.Addr) int { return m.source(src, noPort) }

func (m *model) source(src netip.Addr, otherwise int) int {
	hit := false
	for p, stands := range m.bans {
		hit = hit || stands && p.Contains(src)
	}
	if !hit {
		return otherwise
	}
	for _, p := range m.allow {
		if p.Contains(src) {
			return allowed
		}
	}
	return banned
}

var localNets = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

func isLocal(a netip.Addr) bool {
	for _, p := range localNets {
		if p.Addr().Is4() == a.Is4() && p.Bits() >= 0 && prefixHolds(p, a) {
			return true
		}
	}
	return false
}

// prefixHolds compares bit by bit: unlike Contains it takes IPv4-mapped
// addresses for the IPv6 addresses that they are on the wire.
func prefixHolds(p netip.Prefix, a netip.Addr) bool {
	x, y := p.Addr().AsSlice(), a.AsSlice()
	for i := range p.Bits() {
		if (x[i/8]^y[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}
