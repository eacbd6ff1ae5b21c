package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
)

// batch is how many entries go to the kernel or come back in one call. It must
// exceed the fullest bucket of a hash map, and fit the processor's cache.
const batch = 4096

// entry is a ban as the kernel keeps it.
type entry struct {
	prefix netip.Prefix
	ban    bpf.FilterBan
}

// banTable is one of the maps that hold bans.
type banTable interface {
	get(netip.Prefix) (bpf.FilterBan, bool, error)
	put([]entry) error
	remove(netip.Prefix) error // no error when it is not there
	each(func(entry)) error
	capacity() int
}

// keyed is a banTable with keys of type K. Both hash maps and tries serve.
type keyed[K comparable] struct {
	m      *ebpf.Map
	key    func(netip.Prefix) K
	prefix func(K) netip.Prefix
}

func (t keyed[K]) capacity() int { return int(t.m.MaxEntries()) }

func (t keyed[K]) get(p netip.Prefix) (b bpf.FilterBan, found bool, err error) {
	key := t.key(p)
	err = t.m.Lookup(&key, &b)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return b, false, nil
	}
	if err != nil {
		return b, false, fmt.Errorf("look up ban %s: %w", p, err)
	}
	return b, true, nil
}

func (t keyed[K]) put(entries []entry) error {
	keys := make([]K, 0, min(batch, len(entries)))
	bans := make([]bpf.FilterBan, 0, cap(keys))
	for len(entries) > 0 {
		n := min(batch, len(entries))
		keys, bans = keys[:0], bans[:0]
		for _, e := range entries[:n] {
			keys, bans = append(keys, t.key(e.prefix)), append(bans, e.ban)
		}
		if _, err := t.m.BatchUpdate(keys, bans, nil); err != nil {
			return fmt.Errorf("write %d bans: %w", n, err)
		}
		entries = entries[n:]
	}
	return nil
}

func (t keyed[K]) remove(p netip.Prefix) error {
	key := t.key(p)
	if err := t.m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove ban %s: %w", p, err)
	}
	return nil
}

func (t keyed[K]) each(yield func(entry)) error {
	var cursor ebpf.MapBatchCursor
	keys, bans := make([]K, batch), make([]bpf.FilterBan, batch)
	for {
		n, err := t.m.BatchLookup(&cursor, keys, bans, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read bans: %w", err)
		}
		for i := range n {
			yield(entry{t.prefix(keys[i]), bans[i]})
		}
		if err != nil {
			return nil
		}
	}
}

// The numbers of the tables in Table.tables.
const (
	inBan4 = iota
	inBan6
	inPrefix4
	inPrefix6
	tableCount
)

// newTables wraps the maps. In keys, words of an address are in network order
// in memory, which is what reading them as native words gives.
func newTables(m *bpf.FilterMaps) [tableCount]banTable {
	return [tableCount]banTable{
		inBan4:    keyed[uint32]{m.Ban4, func(p netip.Prefix) uint32 { return word4(p.Addr()) }, hostPrefix4},
		inBan6:    keyed[bpf.FilterBan6Key]{m.Ban6, ban6Key, ban6Prefix},
		inPrefix4: keyed[bpf.FilterPrefix4Key]{m.Prefix4, prefix4Key, prefix4Prefix},
		inPrefix6: keyed[bpf.FilterPrefix6Key]{m.Prefix6, prefix6Key, prefix6Prefix},
	}
}

func word4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func addr4(w uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], w)
	return netip.AddrFrom4(b)
}

func words6(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

func addr6(w [4]uint32) netip.Addr {
	var b [16]byte
	for i := range w {
		binary.NativeEndian.PutUint32(b[4*i:], w[i])
	}
	return netip.AddrFrom16(b)
}

func hostPrefix4(w uint32) netip.Prefix { return netip.PrefixFrom(addr4(w), 32) }

func ban6Key(p netip.Prefix) bpf.FilterBan6Key {
	b := p.Addr().As16()
	return bpf.FilterBan6Key{
		Hi:   binary.NativeEndian.Uint64(b[:8]),
		Lo:   binary.NativeEndian.Uint64(b[8:]),
		Bits: uint64(p.Bits()),
	}
}

func ban6Prefix(k bpf.FilterBan6Key) netip.Prefix {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], k.Hi)
	binary.NativeEndian.PutUint64(b[8:], k.Lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(k.Bits))
}

func prefix4Key(p netip.Prefix) bpf.FilterPrefix4Key {
	return bpf.FilterPrefix4Key{Bits: uint32(p.Bits()), Addr: word4(p.Addr())}
}

func prefix4Prefix(k bpf.FilterPrefix4Key) netip.Prefix {
	return netip.PrefixFrom(addr4(k.Addr), int(k.Bits))
}

func prefix6Key(p netip.Prefix) bpf.FilterPrefix6Key {
	return bpf.FilterPrefix6Key{Bits: uint32(p.Bits()), Addr: words6(p.Addr())}
}

func prefix6Prefix(k bpf.FilterPrefix6Key) netip.Prefix {
	return netip.PrefixFrom(addr6(k.Addr), int(k.Bits))
}
