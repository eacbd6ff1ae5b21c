package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
)

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

// turnTo puts staged tables in force, all by one store, and takes the old ones
// out. Only bans that stand at now keep what they have counted.
func (t *Table) turnTo(places uint64, now uint32, list ...succession) error {
	was := t.word()
	t.turn(places, list...)
	bpf.WaitForPackets()
	var errs error
	for _, c := range list {
		if c.s.former == nil {
			continue
		}
		f := t.family(c.s.v6)
		place := f.place(was)
		errs = errors.Join(errs, t.takeOut(f, place))
		c.s.inherit(0, c.s.former.Capacity(), now)
		old := c.s.former
		c.s.former = nil
		errs = errors.Join(errs, t.letGo(f, place, old))
	}
	return errs
}

// turn is the store, after which a packet that came before may still look for the
// old tables.
func (t *Table) turn(places uint64, list ...succession) {
	t.setWord(t.word()&^cfgPlaces | places)
	for _, c := range list {
		c.s.former, c.s.table = c.s.table, c.next
		c.next.Live, c.next.Firsts = bpf.WaitForPackets, c.s.firsts
	}
	reach(stepTurned)
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
	reach(stepHintIn)
	if err := f.outer.Put(uint32(place), next.Map); err != nil {
		return fmt.Errorf("put a table of bans in its place: %w", err)
	}
	reach(stepTableIn)
	return nil
}

// unstage takes a table out of its place that was not turned to, and lets go of
// it.
func (t *Table) unstage(s *singles, next *bpf.Bans) error {
	f := t.family(s.v6)
	place := s.place(next, f.place(t.word()))
	err := errors.Join(bpf.TakeOut(f.outer, uint32(place)), bpf.HintOut(f.hints, uint32(place)))
	if t.generation > 0 {
		err = errors.Join(err, t.pins().unpinTable(t.generation, f.name, place))
	}
	return errors.Join(err, next.Close())
}

// takeOut takes an old table out of its place. The kernel lets go of it when no
// packet looks at it any more; then its hits are all there.
func (t *Table) takeOut(f family, place uint64) error {
	if err := bpf.TakeOut(f.outer, uint32(place)); err != nil {
		return fmt.Errorf("take an old table of bans out: %w", err)
	}
	reach(stepTableOut)
	err := bpf.HintOut(f.hints, uint32(place))
	reach(stepHintOut)
	return err
}

// inherit gives the bans that stand at now the hits of some slots of the former
// table.
func (s *singles) inherit(from, to int, now uint32) {
	s.former.Range(from, to, func(n int, k bpf.Key, end uint32) {
		if s.former.Hits(n) == 0 || end <= now {
			return
		}
		if to, _, found := s.table.Find(k); found {
			s.table.AddHits(to, s.former.TakeHits(n))
		}
	})
}

// letGo lets go of a former table, which had a place.
func (t *Table) letGo(f family, place uint64, old *bpf.Bans) (err error) {
	if t.generation > 0 {
		err = t.pins().unpinTable(t.generation, f.name, place)
	}
	return errors.Join(err, old.Close())
}

// hintsIn puts the hints of adopted tables in the place of those of the process
// that had them before, and takes out what that one has left half done. Not when
// they are opened: whoever only looks, and finds that another guard is at work,
// must not take that one's hints from packets.
func (t *Table) hintsIn() error {
	if !t.hintsDue {
		return nil
	}
	for _, n := range []int{inBan4, inBan6} {
		s := t.tables[n].(*singles)
		f := t.family(s.v6)
		place := f.place(t.word())
		if err := s.table.HintIn(f.hints, uint32(place)); err != nil {
			return err
		}
		reach(stepAdoptedHint)
		s.table.DropCopies()
		if err := f.sweep(place); err != nil {
			return err
		}
	}
	t.hintsDue = false
	return nil
}

// sweep takes out the tables, and pieces of hints, in all places but one: packets
// look there only, and what a process that was killed has put elsewhere is 200 MB
// with ten million bans.
func (f family) sweep(inForce uint64) error {
	for place := range uint64(bpf.Tables) {
		if place == inForce {
			continue
		}
		if err := errors.Join(bpf.TakeOut(f.outer, uint32(place)), bpf.HintOut(f.hints, uint32(place))); err != nil {
			return fmt.Errorf("take out what a killed process has left: %w", err)
		}
	}
	reach(stepSwept)
	return nil
}

// succeed puts a larger table into the place of the one in force.
func (t *Table) succeed(s *singles, next *bpf.Bans) error {
	if !t.alone {
		return errors.Join(errFull, next.Close())
	}
	c := succession{s, next}
	places, err := t.stage(c)
	if err != nil {
		return errors.Join(err, t.unstage(s, next))
	}
	return t.turnTo(places, 0, c)
}
