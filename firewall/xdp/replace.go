package xdp

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"mailweir/bpf"
	"mailweir/firewall"
)

// Replace makes bans the whole truth. Single bans are written to new tables, and
// packets turn from the old ones to them at once; prefixes are changed one by
// one. A ban that stands and is to go on standing is never missing for a moment;
// where a prefix occurs twice the later end counts.
func (t *Table) Replace(ctx context.Context, bans iter.Seq[firewall.Ban]) error {
	defer t.lockWhole()()
	if err := errors.Join(t.ready(ctx), t.hintsIn()); err != nil {
		return err
	}
	now, err := t.moment()
	if err != nil {
		return err
	}
	want, err := t.collect(ctx, now, bans)
	if err != nil {
		return err
	}
	if err := t.substitute(now, want); err != nil {
		return errors.Join(err, want.discard(t))
	}
	t.filled = true
	if !t.displaces {
		return nil
	}
	return t.takeForce()
}

// wanted is every ban to be.
type wanted struct {
	flags    uint64
	single   [2]*singles                         // of IPv4 and IPv6: new tables
	prefixes [tableCount]map[netip.Prefix]uint64 // ends in kernel time
	waiting  []single
	touched  uint64 // of no meaning
}

// single is a ban that waits to be written to a new table.
type single struct {
	s   *singles
	key bpf.Key
	end uint32
}

// together is how many single bans are written one after the other. Their places
// are all over a table that is larger than any cache, and waited for at once.
const together = 256

func (t *Table) collect(ctx context.Context, now moment, bans iter.Seq[firewall.Ban]) (w *wanted, err error) {
	w = new(wanted)
	for _, n := range []int{inPrefix4, inPrefix6} {
		w.prefixes[n] = make(map[netip.Prefix]uint64)
	}
	for i, n := range []int{inBan4, inBan6} {
		if w.single[i], err = t.tables[n].(*singles).anew(); err != nil {
			return nil, errors.Join(err, w.discard(t))
		}
	}
	for b := range bans {
		if err := w.add(now, b); err != nil {
			return nil, errors.Join(err, w.discard(t))
		}
	}
	if err := errors.Join(w.write(), ctx.Err()); err != nil {
		return nil, errors.Join(err, w.discard(t))
	}
	return w, nil
}

// anew is a table of the size that s needs now, in which no packet looks yet.
func (s *singles) anew() (*singles, error) {
	log2 := bpf.FewBans
	for log2 < s.table.Log2 && s.table.Used() > s.table.Capacity()>>(s.table.Log2-log2)/2 {
		log2++
	}
	table, err := bpf.MakeBans(s.v6, log2, s.hash)
	if err != nil {
		return nil, explain("replace bans", err)
	}
	next := &singles{v6: s.v6, max: s.max, hash: s.hash, firsts: s.firsts, table: table}
	next.turn = func(n *singles, larger *bpf.Bans) error {
		old := n.table
		n.table = larger
		return old.Close()
	}
	return next, nil
}

// add adds a ban, unless it is over.
func (w *wanted) add(now moment, b firewall.Ban) error {
	p, err := canonical(b.Prefix)
	if err != nil {
		return err
	}
	until := now.toKernel(b.Until)
	if until <= now.kernel {
		return nil
	}
	n, flag := place(p)
	w.flags |= flag
	if list := w.prefixes[n]; list != nil {
		list[p] = max(list[p], until)
		return nil
	}
	s := w.single[0]
	if n == inBan6 {
		s = w.single[1]
	}
	w.waiting = append(w.waiting, single{s, bpf.KeyOf(p), bpf.Ticks(until)})
	if len(w.waiting) < together {
		return nil
	}
	return w.write()
}

// write writes the single bans that wait.
func (w *wanted) write() error {
	for _, b := range w.waiting {
		w.touched ^= b.s.table.Touch(b.key)
	}
	for _, b := range w.waiting {
		if err := b.write(); err != nil {
			return err
		}
	}
	w.waiting = w.waiting[:0]
	return nil
}

func (b single) write() error {
	end := b.end
	if _, was, found := b.s.table.Find(b.key); found {
		end = max(end, was)
	} else if err := b.s.reserve(1); err != nil {
		return err
	}
	// What has no stamp to lose yet must not lose that of the ban in force.
	return b.s.add(b.key, end, 0)
}

// discard lets go of new tables that were not put in force.
func (w *wanted) discard(t *Table) (err error) {
	for i, n := range []int{inBan4, inBan6} {
		if s := w.single[i]; s != nil && s.table != t.tables[n].(*singles).table {
			err = errors.Join(err, t.unstage(s, s.table))
		}
	}
	return err
}

// substitute puts want in force.
func (t *Table) substitute(now moment, w *wanted) error {
	tx := &transaction{now: now.kernel, flags: w.flags}
	for _, n := range []int{inPrefix4, inPrefix6} {
		if err := t.differ(tx, n, w.prefixes[n]); err != nil {
			return err
		}
	}
	tick := uint32(now.kernel >> bpf.TickShift)
	var list []succession
	for i, n := range []int{inBan4, inBan6} {
		list = append(list, succession{t.tables[n].(*singles), w.single[i].table})
	}
	places, err := t.stage(list...)
	if err != nil {
		return err
	}
	if err := t.commit(tx); err != nil {
		return err
	}
	reach(stepPrefixes)
	for _, c := range list {
		c.s.forgetStamps(c.next, tick)
	}
	err = t.turnTo(places, tick, list...)
	t.setWord(t.word()&^cfgTables | w.flags)
	return err
}

// forgetStamps clears those of bans in next that do not stand now.
func (s *singles) forgetStamps(next *bpf.Bans, now uint32) {
	next.Each(func(_ int, k bpf.Key, _ uint32) {
		if _, end, found := s.table.Find(k); !found || end <= now {
			s.firsts.Clear(s.hash.Sum(k, s.v6))
		}
	})
}

// differ finds what has to happen to make the table of prefixes n hold want. It
// empties want.
func (t *Table) differ(tx *transaction, n int, want map[netip.Prefix]uint64) error {
	c := &tx.table[n]
	err := t.tables[n].each(func(old entry) {
		c.was = append(c.was, old)
		until, stays := want[old.prefix]
		if !stays {
			c.remove = append(c.remove, old.prefix)
			return
		}
		c.put = append(c.put, entry{old.prefix, ban{until: until}})
		delete(want, old.prefix)
	})
	if err != nil {
		return err
	}
	for p, until := range want {
		c.put = append(c.put, entry{p, ban{until: until}})
		c.added = append(c.added, p)
	}
	return nil
}
