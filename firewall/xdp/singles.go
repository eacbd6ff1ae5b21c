package xdp

import (
	"fmt"
	"net/netip"

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
	turn   func(*singles, *bpf.Bans) error // puts another into the place of table, while bans wait
	beside func(*singles)                  // has a larger one filled while bans go on; nil: they wait
	grows  bool                            // beside is at it, or about to be
	next   *filling                        // the larger one that is being filled
	former *bpf.Bans                       // was in force until now: hits that are not counted in table yet
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
	if s.former != nil {
		if n, _, found := s.former.Find(k); found {
			b.hits += uint64(s.former.Hits(n))
		}
	}
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
	if s.beside != nil && s.table.Stretch(more) {
		s.beside(s)
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
		f, err := s.fill(old, log2)
		if err != nil {
			return nil, err
		}
		if f.next.Room(n) {
			for !f.step(old.Capacity()) {
			}
			if !f.full {
				return f.next, nil
			}
		}
		if err := f.next.Close(); err != nil {
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
			s.next.put(k, end)
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
		k := bpf.KeyOf(p)
		s.table.Remove(k)
		s.next.remove(k)
	}
	return nil
}

func (s *singles) each(yield func(entry)) error {
	s.table.Each(func(n int, k bpf.Key, end uint32) {
		yield(entry{k.Prefix(s.v6), s.ban(n, k, end)})
	})
	return nil
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
		s := &singles{v6: n == inBan6, max: t.opt.MaxBans, hash: c.Key, firsts: firsts, turn: t.succeed, beside: t.growBeside}
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
