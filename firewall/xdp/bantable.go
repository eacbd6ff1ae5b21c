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

// ban is what the kernel keeps of a ban. Times are CLOCK_MONOTONIC in ns.
type ban struct {
	until uint64
	hits  uint64
	first uint64 // when it dropped its first packet; 0 when that is not known
}

// entry is a ban with its prefix.
type entry struct {
	prefix netip.Prefix
	ban
}

// banTable is one of the tables that hold bans.
type banTable interface {
	get(netip.Prefix) (ban, bool, error)
	// reserve makes room for some bans more, or says that there is none.
	reserve(more int) error
	// put bans until the end of each entry. What stood goes on counting; what
	// was over starts anew.
	put(now uint64, entries []entry) error
	// restore puts back what get has said.
	restore([]entry) error
	remove([]netip.Prefix) error // no error when one is not there
	each(func(entry)) error
}

// trie is a banTable of prefixes, with keys of type K. The bits of its hint are
// set before a prefix goes in, and cleared after it went out.
type trie[K comparable] struct {
	m      *ebpf.Map
	hint   bpf.PrefixHint
	key    func(netip.Prefix) K
	prefix func(K) netip.Prefix
	all    func() ([]netip.Prefix, error) // of both tries
}

// reserve leaves it to put: the kernel counts.
func (t trie[K]) reserve(int) error { return nil }

func (t trie[K]) get(p netip.Prefix) (ban, bool, error) {
	b, found, err := t.lookup(p)
	return ban{b.Until, b.Hits, b.First}, found, err
}

func (t trie[K]) lookup(p netip.Prefix) (b bpf.FilterBan, found bool, err error) {
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

func (t trie[K]) put(now uint64, entries []entry) error {
	renewed := make([]entry, len(entries))
	for i, e := range entries {
		old, _, err := t.get(e.prefix)
		if err != nil {
			return err
		}
		renewed[i] = entry{e.prefix, ban{until: e.until}}
		if old.until > now {
			renewed[i].hits, renewed[i].first = old.hits, old.first
		}
	}
	return t.restore(renewed)
}

func (t trie[K]) restore(entries []entry) error {
	keys := make([]K, 0, min(batch, len(entries)))
	bans := make([]bpf.FilterBan, 0, cap(keys))
	for len(entries) > 0 {
		n := min(batch, len(entries))
		keys, bans = keys[:0], bans[:0]
		for _, e := range entries[:n] {
			t.hint.Add(e.prefix)
			keys = append(keys, t.key(e.prefix))
			bans = append(bans, bpf.FilterBan{Until: e.until, Hits: e.hits, First: e.first, Bits: uint32(e.prefix.Bits())})
		}
		if _, err := t.m.BatchUpdate(keys, bans, nil); err != nil {
			return full(fmt.Errorf("write %d bans: %w", n, err), int(t.m.MaxEntries()))
		}
		entries = entries[n:]
	}
	return nil
}

func (t trie[K]) remove(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	for _, p := range prefixes {
		key := t.key(p)
		if err := t.m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove ban %s: %w", p, err)
		}
	}
	left, err := t.all()
	if err != nil {
		return err
	}
	t.hint.Rebuild(left)
	return nil
}

func (t trie[K]) each(yield func(entry)) error {
	var cursor ebpf.MapBatchCursor
	keys, bans := make([]K, batch), make([]bpf.FilterBan, batch)
	for {
		n, err := t.m.BatchLookup(&cursor, keys, bans, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read bans: %w", err)
		}
		for i := range n {
			yield(entry{t.prefix(keys[i]), ban{bans[i].Until, bans[i].Hits, bans[i].First}})
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

// newTries wraps the maps of prefixes. In keys, words of an address are in
// network order in memory, which is what reading them as native words gives.
func newTries(m *bpf.FilterMaps, hint bpf.PrefixHint) (four, six banTable) {
	var both [2]banTable
	all := func() (list []netip.Prefix, err error) {
		for _, t := range both {
			err = errors.Join(err, t.each(func(e entry) { list = append(list, e.prefix) }))
		}
		return list, err
	}
	both[0] = trie[bpf.FilterPrefix4Key]{m.Prefix4, hint, prefix4Key, prefix4Prefix, all}
	both[1] = trie[bpf.FilterPrefix6Key]{m.Prefix6, hint, prefix6Key, prefix6Prefix, all}
	return both[0], both[1]
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
