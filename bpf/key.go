package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
)

// Hash is the key of the hash of ban tables.
type Hash [2]uint64

// NewHash draws one.
func NewHash() Hash {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return Hash{binary.NativeEndian.Uint64(b[:8]) | 1, binary.NativeEndian.Uint64(b[8:]) | 1}
}

// Key is a banned prefix: its bytes as they are in a packet. Of IPv4 there are
// single addresses only, in Hi.
type Key struct {
	Hi, Lo uint64
	Bits   uint8
}

// KeyOf is the key of p.
func KeyOf(p netip.Prefix) Key {
	if a := p.Addr(); a.Is4() {
		b := a.As4()
		return Key{Hi: uint64(binary.NativeEndian.Uint32(b[:])), Bits: 32}
	}
	b := p.Addr().As16()
	return Key{binary.NativeEndian.Uint64(b[:8]), binary.NativeEndian.Uint64(b[8:]), uint8(p.Bits())}
}

// Prefix is the inverse of KeyOf; v6 says of which family k is.
func (k Key) Prefix(v6 bool) netip.Prefix {
	var b [16]byte
	if !v6 {
		binary.NativeEndian.PutUint32(b[:], uint32(k.Hi))
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 32)
	}
	binary.NativeEndian.PutUint64(b[:8], k.Hi)
	binary.NativeEndian.PutUint64(b[8:], k.Lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(k.Bits))
}

// Sum is the hash of k, as bans.h has it.
func (h Hash) Sum(k Key, v6 bool) uint64 {
	s := k.Hi * h[0]
	s ^= s >> 32
	if v6 {
		s = (s + k.Lo) * h[1]
		s = ((s ^ s>>32) + uint64(k.Bits)) * h[0]
	} else {
		s *= h[1]
	}
	return s ^ s>>32
}
