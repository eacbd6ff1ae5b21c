package xdp

import (
	"errors"

	"mailweir/bpf"
)

// A table of bans that fills is followed by a larger one without holding up a
// ban: the larger is filled a few slots at a time, while each new ban goes into
// both, and each that is lifted out of both. Most of the time goes into waiting
// for packets, five times, and none of that is spent with the table locked.

// errFull says that bans have to wait for a larger table.
var errFull = errors.New("the table of bans has to grow first")

// slotsAtOnce are copied while the table is locked: well below a millisecond.
const slotsAtOnce = 4096

// filling is a table that is being filled from another, which goes on changing:
// who puts into old or removes from it, does the same here. A nil filling is
// none.
type filling struct {
	old, next *bpf.Bans
	at        int  // the slots of old below are copied
	full      bool // a ban found no room: a larger one is needed
}

// fill makes a table of 2^log2 buckets to be filled from old.
func (s *singles) fill(old *bpf.Bans, log2 int) (*filling, error) {
	next, err := bpf.MakeBans(s.v6, log2, s.hash)
	if err != nil {
		return nil, explain("make room for bans", err)
	}
	return &filling{old: old, next: next}, nil
}

// step copies the bans of n slots more, with all but their hits, and says whether
// that was all.
func (f *filling) step(n int) (done bool) {
	f.old.Range(f.at, f.at+n, func(_ int, k bpf.Key, end uint32) { f.put(k, end) })
	f.at += n
	return f.full || f.at >= f.old.Capacity()
}

func (f *filling) put(k bpf.Key, end uint32) {
	if f == nil || f.full {
		return
	}
	_, ok := f.next.Put(k, end, 0)
	f.full = !ok
}

func (f *filling) remove(k bpf.Key) {
	if f != nil {
		f.next.Remove(k)
	}
}

// begin has changes go to f too. A ban that moves in the old table may move to
// where it was copied from already, so f is told of it.
func (s *singles) begin(f *filling) {
	s.next = f
	f.old.Moved = f.put
}

func (s *singles) end() {
	s.next.old.Moved = nil
	s.next = nil
}

// growBeside has a larger table filled and turned to; bans go on.
func (t *Table) growBeside(s *singles) {
	if s.grows {
		return
	}
	s.grows = true
	old := s.table
	t.growth.Go(func() {
		t.whole.Lock()
		defer t.whole.Unlock()
		err := t.followUp(s, old)
		t.mu.Lock()
		defer t.mu.Unlock()
		s.grows, t.growthErr = false, err
	})
}

// followUp puts a larger table into the place of old, unless that was done.
func (t *Table) followUp(s *singles, old *bpf.Bans) error {
	t.mu.Lock()
	due := (t.tables[inBan4] == s || t.tables[inBan6] == s) && s.table == old
	t.mu.Unlock()
	if !due {
		return nil
	}
	place := t.family(s.v6).place(t.word())
	for log2 := old.Log2 + 1; ; log2++ {
		f, err := s.fill(old, log2)
		if err != nil {
			return err
		}
		c := succession{s, f.next}
		places, err := t.stage(c)
		if err != nil {
			return errors.Join(err, t.unstage(s, f.next))
		}
		if t.copyAndTurn(f, c, places) {
			return t.retire(s, place)
		}
		if err := t.unstage(s, f.next); err != nil {
			return err
		}
	}
}

// copyAndTurn says whether all bans had room.
func (t *Table) copyAndTurn(f *filling, c succession, places uint64) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.s.begin(f)
	for !f.step(slotsAtOnce) {
		t.mu.Unlock()
		reach(stepHalf)
		t.mu.Lock()
	}
	c.s.end()
	if f.full {
		return false
	}
	t.turn(places, c)
	return true
}

// retire is what turnTo does after the store, with the table locked for moments
// only.
func (t *Table) retire(s *singles, place uint64) error {
	bpf.WaitForPackets()
	f := t.family(s.v6)
	err := t.takeOut(f, place)
	for at := 0; at < s.former.Capacity(); at += slotsAtOnce {
		t.mu.Lock()
		s.inherit(at, at+slotsAtOnce, 0)
		t.mu.Unlock()
	}
	t.mu.Lock()
	old := s.former
	s.former = nil
	t.mu.Unlock()
	return errors.Join(err, t.letGo(f, place, old))
}
