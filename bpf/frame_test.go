package bpf_test

import (
	"encoding/binary"
	"net/netip"
)

// frame describes an Ethernet frame; the zero value but for src is a SYN to
// port 25.
type frame struct {
	src      string
	port     uint16
	tags     int    // VLAN tags
	options  int    // bytes of IPv4 options
	headers  []byte // types of IPv6 extension headers
	proto    byte   // 6 when it is 0
	fragment uint16 // fragment offset, in units of 8 bytes
	jumbo    int    // bytes of payload after the TCP header
	edit     func(ip []byte)
}

func (f frame) bytes() []byte {
	src := netip.MustParseAddr(f.src)
	tcp := make([]byte, 20+f.jumbo)
	port := f.port
	if port == 0 {
		port = 25
	}
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], port)
	tcp[12], tcp[13] = 5<<4, 2
	var ip []byte
	typ := uint16(0x0800)
	if src.Is4() {
		ip = f.header4(src, len(tcp))
	} else {
		ip, typ = f.header6(src, len(tcp)), 0x86dd
	}
	ip = append(ip, tcp...)
	if f.edit != nil {
		f.edit(ip)
	}
	b := make([]byte, 12)
	for i := range f.tags {
		b = binary.BigEndian.AppendUint16(b, []uint16{0x8100, 0x88a8}[(f.tags-i)/2%2])
		b = append(b, 0, byte(i))
	}
	b = binary.BigEndian.AppendUint16(b, typ)
	return append(b, ip...)
}

func (f frame) protocol() byte {
	if f.proto == 0 {
		return 6
	}
	return f.proto
}

func (f frame) header4(src netip.Addr, payload int) []byte {
	h := make([]byte, 20+f.options)
	h[0], h[8], h[9] = 4<<4|byte(len(h)/4), 64, f.protocol()
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+payload))
	binary.BigEndian.PutUint16(h[6:], f.fragment)
	copy(h[12:], src.AsSlice())
	copy(h[16:], []byte{198, 51, 100, 25})
	return h
}

func (f frame) header6(src netip.Addr, payload int) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 6<<4, f.protocol(), 64
	copy(h[8:], src.AsSlice())
	h[39] = 25
	next := 6
	for i, typ := range f.headers {
		h[next] = typ
		next = len(h)
		e := make([]byte, 8*(1+i%2))
		e[0] = f.protocol()
		switch typ {
		case 44:
			e = e[:8]
			binary.BigEndian.PutUint16(e[2:], f.fragment<<3|1)
		case 51:
			e[1] = byte(len(e)/4 - 2)
		default:
			e[1] = byte(len(e)/8 - 1)
		}
		h = append(h, e...)
	}
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40+payload))
	return h
}
