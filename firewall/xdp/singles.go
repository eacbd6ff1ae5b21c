package xdp

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
)

// singles is the banTable of single bans of one family: IPv4 addresses, or the
// lengths of IPv6 that are banned by the million. What packets see of it is a
// bpf.Bans; a larger one takes its place when it fills.
type singles struct {
	v6     bool
	max    int
	hash   bpf.Hash
	firsts bpf.Firsts
	table  *bpf.Bans
	turn   func(*singles, *bpf.Bans) error // puts another into the place of table
}

func (s *singles) get(p netip.Prefix) (ban, bool, error) {
	k := bpf.KeyOf(p)
	n, end, found := s.table.Find(k)
	if !found {
		return ban{}, false, nil
	}
	return s.ban(n, k, end), true, nil
}

func (s *singles) ban(n int, k bpf.Key, end uint32) ban {
	b := ban{until: bpf.Until(end), hits: uint64(s.table.Hits(n))}
	if b.hits > 0 {
		b.first = s.firsts.At(s.hash.Sum(k, s.v6))
	}
	return b
}

func (s *singles) reserve(more int) error {
	if n := s.table.Used() + more; n > s.max {
		return s.tooMany(n)
	}
	if s.table.Room(more) {
		return nil
	}
	return s.grow(s.table.Used() + more)
}

func (s *singles) tooMany(n int) error {
	return fmt.Errorf("%d bans for a table of %d (lift some, or ban wider prefixes)", n, s.max)
}

// grow puts a larger table, with room for n bans, into the place of the one in
// force.
func (s *singles) grow(n int) error {
	next, err := s.enlarged(s.table, n)
	if err != nil {
		return err
	}
	return s.turn(s, next)
}

// enlarged is a copy of old in a larger table, with all but the hits.
func (s *singles) enlarged(old *bpf.Bans, n int) (*bpf.Bans, error) {
	for log2 := old.Log2 + 1; ; log2++ {
		next, err := bpf.MakeBans(s.v6, log2, s.hash)
		if err != nil {
			return nil, explain("make room for bans", err)
		}
		fits := next.Room(n)
		if fits {
			old.Each(func(_ int, k bpf.Key, end uint32) {
				_, ok := next.Put(k, end, 0)
				fits = fits && ok
			})
		}
		if fits {
			return next, nil
		}
		if err := next.Close(); err != nil {
			return nil, err
		}
	}
}

func (s *singles) put(now uint64, entries []entry) error {
	for _, e := range entries {
		if err := s.add(bpf.KeyOf(e.prefix), bpf.Ticks(e.until), uint32(now>>bpf.TickShift)); err != nil {
			return err
		}
	}
	return nil
}

func (s *singles) add(k bpf.Key, end, now uint32) error {
	for {
		if _, ok := s.table.Put(k, end, now); ok {
			return nil
		}
		if err := s.grow(s.table.Used() + 1); err != nil {
			return err
		}
	}
}

func (s *singles) restore(entries []entry) error {
	for _, e := range entries {
		k := bpf.KeyOf(e.prefix)
		if err := s.add(k, bpf.Ticks(e.until), 0); err != nil {
			return err
		}
		n, _, _ := s.table.Find(k)
		if have := uint64(s.table.Hits(n)); have < e.hits {
			s.table.AddHits(n, uint32(e.hits-have))
		}
	}
	return nil
}

func (s *singles) remove(prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		s.table.Remove(bpf.KeyOf(p))
	}
	return nil
}

func (s *singles) each(yield func(entry)) error {
	s.table.Each(func(n int, k bpf.Key, end uint32) {
		yield(entry{k.Prefix(s.v6), s.ban(n, k, end)})
	})
	return nil
}

// place is where in the array of tables next stands: one of the two places of
// its size that the table in force has not.
func (s *singles) place(next *bpf.Bans, inForce uint64) uint64 {
	place := uint64(2 * next.Log2)
	if place == inForce {
		place++
	}
	return place
}

// succession is a table that takes the place of another.
type succession struct {
	s    *singles
	next *bpf.Bans
}

// stage makes new tables ready to be turned to, and says with which bits of cfg
// they are in force.
func (t *Table) stage(list ...succession) (word uint64, err error) {
	word = t.word()
	for _, c := range list {
		f := t.family(c.s.v6)
		place := c.s.place(c.next, f.place(word))
		if err := t.stageOne(f, place, c.next); err != nil {
			return 0, err
		}
		word = word&^((bpf.Tables-1)<<f.shift) | place<<f.shift
	}
	return word & cfgPlaces, nil
}

// turnTo puts staged tables in force, all by one store. Only bans that stand at
// now keep what they have counted.
func (t *Table) turnTo(places uint64, now uint32, list ...succession) error {
	was := t.word()
	t.setWord(was&^cfgPlaces | places)
	// A packet that came before may still look for the old tables.
	bpf.WaitForPackets()
	var errs error
	for _, c := range list {
		f, old := t.family(c.s.v6), c.s.table
		c.s.table, c.next.Live, c.next.Firsts = c.next, bpf.WaitForPackets, c.s.firsts
		if old != nil {
			errs = errors.Join(errs, t.retire(f, f.place(was), c.s, old, now))
		}
	}
	return errs
}

// family is what is different between tables of IPv4 and of IPv6.
type family struct {
	name  string
	shift int
	outer *ebpf.Map
	hints *ebpf.Map // the same for the pieces of hints
}

func (t *Table) family(v6 bool) family {
	if v6 {
		return family{bpf.FilterMapBan6, cfgTable6, t.obj.Ban6, t.obj.Hint6}
	}
	return family{bpf.FilterMapBan4, cfgTable4, t.obj.Ban4, t.obj.Hint4}
}

// place is that of the table which is in force by word.
func (f family) place(word uint64) uint64 { return word >> f.shift % bpf.Tables }

// stageOne pins the table before all: whatever happens, the one in force has a
// pin.
func (t *Table) stageOne(f family, place uint64, next *bpf.Bans) error {
	if t.generation > 0 {
		// What a turn that failed has left there is another table.
		if err := t.pins().unpinTable(t.generation, f.name, place); err != nil {
			return err
		}
		if err := keep(next.Map, t.pins().table(t.generation, f.name, place)); err != nil {
			return err
		}
	}
	if err := next.HintIn(f.hints, uint32(place)); err != nil {
		return err
	}
	if err := f.outer.Put(uint32(place), next.Map); err != nil {
		return fmt.Errorf("put a table of bans in its place: %w", err)
	}
	return nil
}

// unstage takes a table out of its place that was not turned to, and lets go of
// it.
func (t *Table) unstage(s *singles, next *bpf.Bans) error {
	f := t.family(s.v6)
	place := s.place(next, f.place(t.word()))
	err := f.outer.Delete(uint32(place))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	err = errors.Join(err, bpf.HintOut(f.hints, uint32(place)))
	if t.generation > 0 {
		err = errors.Join(err, t.pins().unpinTable(t.generation, f.name, place))
	}
	return errors.Join(err, next.Close())
}

// retire takes an old table out. The kernel lets go of it when no packet looks
// at it any more; then its hits are all there.
func (t *Table) retire(f family, place uint64, s *singles, old *bpf.Bans, now uint32) error {
	if err := f.outer.Delete(uint32(place)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("take an old table of bans out: %w", err)
	}
	if err := bpf.HintOut(f.hints, uint32(place)); err != nil {
		return err
	}
	old.Each(func(n int, k bpf.Key, end uint32) {
		if hits := old.Hits(n); hits > 0 && end > now {
			if to, _, found := s.table.Find(k); found {
				s.table.AddHits(to, hits)
			}
		}
	})
	if t.generation > 0 {
		if err := t.pins().unpinTable(t.generation, f.name, place); err != nil {
			return err
		}
	}
	return old.Close()
}

// prepareSingles opens the tables of single bans that were loaded, or makes
// empty ones and a new key of their hash.
func (t *Table) prepareSingles(l *loaded, firsts bpf.Firsts) error {
	fresh := l.tables[0] == nil
	var c bpf.FilterConfig
	if fresh {
		c.Key = bpf.NewHash()
		if err := t.obj.Cfg.Put(uint32(0), c); err != nil {
			return fmt.Errorf("write the map cfg: %w", err)
		}
	} else if err := t.obj.Cfg.Lookup(uint32(0), &c); err != nil {
		return fmt.Errorf("read the map cfg: %w", err)
	}
	var list []succession
	for i, n := range []int{inBan4, inBan6} {
		s := &singles{v6: n == inBan6, max: t.opt.MaxBans, hash: c.Key, firsts: firsts, turn: t.succeed}
		t.tables[n] = s
		if fresh {
			next, err := bpf.MakeBans(s.v6, bpf.FewBans, s.hash)
			if err != nil {
				return explain("make a table of bans", err)
			}
			list = append(list, succession{s, next})
			continue
		}
		f := t.family(s.v6)
		m, place := l.tables[i], f.place(c.Mode)
		l.tables[i] = nil // OpenBans takes it
		var err error
		if s.table, err = bpf.OpenBans(m, s.v6, int(place/2), s.hash); err != nil {
			return err
		}
		t.hintsDue = true
		s.table.Live, s.table.Firsts = bpf.WaitForPackets, firsts
	}
	if !fresh {
		return nil
	}
	places, err := t.stage(list...)
	if err != nil {
		return err
	}
	return t.turnTo(places, 0, list...)
}

// hintsIn puts the hints of adopted tables in the place of those of the process
// that had them before. Not when they are opened: whoever only looks, and finds
// that another guard is at work, must not take that one's hints from packets.
func (t *Table) hintsIn() error {
	if !t.hintsDue {
		return nil
	}
	for _, n := range []int{inBan4, inBan6} {
		s := t.tables[n].(*singles)
		f := t.family(s.v6)
		if err := s.table.HintIn(f.hints, uint32(f.place(t.word()))); err != nil {
			return err
		}
	}
	t.hintsDue = false
	return nil
}

// succeed puts a larger table into the place of the one in force.
func (t *Table) succeed(s *singles, next *bpf.Bans) error {
	c := succession{s, next}
	places, err := t.stage(c)
	if err != nil {
		return errors.Join(err, t.unstage(s, next))
	}
	return t.turnTo(places, 0, c)
}
