package geo

import (
	"encoding/binary"
	"net/netip"
)

// u128 is an address as a number.
type u128 struct{ hi, lo uint64 }

func (k u128) less(other u128) bool {
	return k.hi < other.hi || k.hi == other.hi && k.lo < other.lo
}

// next is the following address; false behind the last one there is.
func (k u128) next() (u128, bool) {
	if k.lo++; k.lo == 0 {
		k.hi++
	}
	return k, k != u128{}
}

// before is the address before k, which is not the first of all.
func (k u128) before() u128 {
	if k.lo == 0 {
		k.hi--
	}
	k.lo--
	return k
}

// behind is the first address behind the block of 2^bits addresses that begins
// at k; false where there is none.
func (k u128) behind(bits int) (u128, bool) {
	switch {
	case bits >= 128:
		return u128{}, false
	case bits >= 64:
		k.hi += 1 << (bits - 64)
		return k, k.hi != 0
	}
	old := k.lo
	if k.lo += 1 << bits; k.lo < old {
		k.hi++
		return k, k.hi != 0
	}
	return k, true
}

func keyOf(a netip.Addr) u128 {
	if a.Is4() {
		return u128{lo: uint64(keyOf4(a))}
	}
	return keyOf6(a)
}

func keyOf6(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func keyOf4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// addr is the inverse of keyOf.
func (k u128) addr(f family) netip.Addr {
	if f == 4 {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(k.lo))))
	}
	b := binary.BigEndian.AppendUint64(nil, k.hi)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, k.lo)))
}
