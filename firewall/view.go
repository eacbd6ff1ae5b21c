package firewall

import (
	"iter"
	"math/rand/v2"
	"net/netip"
)

// Entry is a ban with the words of the operator who ordered it.
type Entry struct {
	Ban
	Why string
}

// Active yields every standing ban, in no order. Bans made or lifted meanwhile
// may be seen or not.
func (l *Ledger) Active() iter.Seq[Ban] {
	return func(yield func(Ban) bool) {
		for r := range l.all() {
			if r.activeAt(l.now()) && !yield(r.ban()) {
				return
			}
		}
	}
}

// Entries is Active with the operators' words.
func (l *Ledger) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for r := range l.all() {
			if !r.activeAt(l.now()) {
				continue
			}
			l.mu.RLock()
			e := l.entry(r)
			l.mu.RUnlock()
			if !yield(e) {
				return
			}
		}
	}
}

// At returns the bans that hold all of p or lie in it: those that stand, and
// those that are over but would double the next.
func (l *Ledger) At(p netip.Prefix) (standing, past []Entry) {
	p = Canonical(p)
	if !p.IsValid() {
		return nil, nil
	}
	now := l.now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, r := range append(l.of(p).covering(p, nil), l.insideLocked(p)...) {
		if r.activeAt(now) {
			standing = append(standing, l.entry(r))
		} else if !l.forgettable(r, now) {
			past = append(past, l.entry(r))
		}
	}
	return standing, past
}

// Banned says which standing ban holds addr longest.
func (l *Ledger) Banned(addr netip.Addr) (Ban, bool) {
	addr = addr.Unmap().WithZone("")
	l.mu.RLock()
	defer l.mu.RUnlock()
	r, ok := l.standing(netip.PrefixFrom(addr, addr.BitLen()), l.now())
	if !ok {
		return Ban{}, false
	}
	return r.ban(), true
}

// Guards is who is protected now.
func (l *Ledger) Guards() *Guards {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.guards
}

// Len counts the standing bans.
func (l *Ledger) Len() int {
	n := 0
	now := l.now()
	l.walk(func(r record) {
		if r.activeAt(now) {
			n++
		}
	})
	return n
}

// all yields every record, copied chunk by chunk, so that a slow reader holds
// up nobody.
func (l *Ledger) all() iter.Seq[record] {
	return func(yield func(record) bool) {
		buf := make([]record, 0, chunkSize)
		for _, t := range []records{l.v4, l.v6} {
			for i := 0; ; i++ {
				var more bool
				if buf, more = l.copyChunk(t, i, buf[:0]); !more {
					break
				}
				for _, r := range buf {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

func (l *Ledger) copyChunk(t records, i int, buf []record) ([]record, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if i >= t.chunkCount() {
		return nil, false
	}
	return t.chunk(i, buf), true
}

func (l *Ledger) walk(f func(record)) {
	for r := range l.all() {
		f(r)
	}
}

// insideLocked is every record inside p but that of p itself.
func (l *Ledger) insideLocked(p netip.Prefix) (list []record) {
	if p.IsSingleIP() {
		return nil
	}
	t := l.of(p)
	buf := make([]record, 0, chunkSize)
	for i := range t.chunkCount() {
		for _, r := range t.chunk(i, buf[:0]) {
			if r.prefix.Bits() > p.Bits() && p.Contains(r.prefix.Addr()) {
				list = append(list, r)
			}
		}
	}
	return list
}

func (l *Ledger) entry(r record) Entry {
	e := Entry{Ban: r.ban()}
	if r.reason == Operator {
		e.Why = l.notes.text[uint32(r.mark)]
	}
	return e
}

// Exactly is the standing ban of just p.
func (l *Ledger) Exactly(p netip.Prefix) (Ban, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	r, ok := l.of(p).get(p)
	if !ok || !r.activeAt(l.now()) {
		return Ban{}, false
	}
	return r.ban(), true
}

// Sample returns at most n standing bans of both families, from a place picked
// at random.
func (l *Ledger) Sample(n int) (bans []Ban) {
	now := l.now()
	buf := make([]record, 0, chunkSize)
	for _, t := range []records{l.v4, l.v6} {
		l.mu.RLock()
		chunks := t.chunkCount()
		l.mu.RUnlock()
		first := 0
		if chunks > 0 {
			first = rand.IntN(chunks)
		}
		for i, most := 0, len(bans)+n/2; i < chunks && len(bans) < most; i++ {
			buf, _ = l.copyChunk(t, (first+i)%chunks, buf[:0])
			for _, r := range buf {
				if r.activeAt(now) {
					bans = append(bans, r.ban())
				}
			}
		}
	}
	return bans[:min(len(bans), n)]
}
