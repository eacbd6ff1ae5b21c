package guard

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"

	"mailweir/firewall"
)

// An engine has room for so many bans, fewer than the ledger. Where there are
// more it has the hottest: first those whose packets another engine has dropped,
// the most first, then the newest, since who was banned a moment ago is there
// still. It is filled to seven eighths then, so that new bans, which are hot,
// go straight in; when the rest is used up the choice is made again.

// bounded is an engine with tables of fixed size.
type bounded interface {
	// Room says in which table a ban goes, in a word that operators read, and
	// how many that holds; 0: as many as there are.
	Room(p netip.Prefix) (table string, most int)
}

// held is how many bans an engine has in one of its tables.
type held struct {
	most  int
	bans  int // as far as is known; those that are lifted twice make it no smaller than it is
	left  int // bans that stand and are not in it
	total int
}

// room is what is known of the tables of an engine. Nil tables: not bounded.
type room struct {
	of     bounded
	tables map[string]*held
}

func newRoom(enf firewall.Enforcer) *room {
	b, ok := enf.(bounded)
	if !ok {
		return nil
	}
	return &room{of: b, tables: map[string]*held{}}
}

// takes counts bans that are to be added, and says whether there is room for
// them. Bans that are renewed are counted twice, until there seems to be no room:
// then those of the table are counted, which standing yields with those to be
// added among them.
func (r *room) takes(add []firewall.Ban, standing banSeq) bool {
	if r == nil {
		return true
	}
	more := map[string]int{}
	for i := range add {
		name, most := r.of.Room(add[i].Prefix)
		if most > 0 {
			more[name]++
			r.table(name, most)
		}
	}
	counted := map[string]bool{}
	for name, n := range more {
		h := r.tables[name]
		if h.bans+n <= h.most {
			continue
		}
		total := r.count(name, standing)
		if h.left > 0 || total > h.most {
			return false
		}
		h.bans, counted[name] = total, true
	}
	for name, n := range more {
		if !counted[name] {
			r.tables[name].bans += n
		}
	}
	return true
}

// count is how many of bans are of a table.
func (r *room) count(table string, bans banSeq) (n int) {
	for b := range bans {
		if name, most := r.of.Room(b.Prefix); most > 0 && name == table {
			n++
		}
	}
	return n
}

func (r *room) table(name string, most int) *held {
	if r.tables[name] == nil {
		r.tables[name] = &held{}
	}
	r.tables[name].most = most
	return r.tables[name]
}

// lifted counts bans that go. Of a table that has not all bans it is not known
// whether they were there.
func (r *room) lifted(del []firewall.Ban) {
	if r == nil {
		return
	}
	for i := range del {
		if name, most := r.of.Room(del[i].Prefix); most > 0 {
			if h := r.table(name, most); h.left == 0 && h.bans > 0 {
				h.bans--
			}
		}
	}
}

// classes sort bans by how hot they are.
const (
	classHit  = 1 << 24 // and above: has dropped packets
	hotChunk  = 4096    // bans whose hits are asked for at a time
	classHour = 3600
)

func class(b firewall.Ban, packets uint64) int {
	if packets > 0 {
		return classHit + bits.Len64(packets)
	}
	return min(int(b.Since.Unix()/classHour), classHit-1)
}

// choice is what goes in an engine, and what is known of its tables then.
type choice struct {
	bans   banSeq
	tables map[string]*held
}

// choose is the whole truth as far as it fits in the engine. hits tells what
// others have dropped: they are asked now, and not while the engine is filled,
// when two engines might wait for each other.
func (r *room) choose(all banSeq, hits func([]firewall.Ban) map[netip.Prefix]firewall.Hits) choice {
	if r == nil {
		return choice{bans: all}
	}
	c := &room{of: r.of, tables: map[string]*held{}}
	for b := range all {
		if name, most := r.of.Room(b.Prefix); most > 0 {
			c.table(name, most).total++
		}
	}
	full := false
	for _, h := range c.tables {
		h.bans = h.total
		full = full || h.full()
	}
	if !full {
		return choice{all, c.tables}
	}
	chosen := c.pick(all, hits, c.thresholds(all, hits))
	return choice{func(yield func(firewall.Ban) bool) {
		for b := range all {
			if !c.narrow(b.Prefix) && !yield(b) {
				return
			}
		}
		for _, b := range chosen {
			if !yield(b) {
				return
			}
		}
	}, c.tables}
}

func (h *held) full() bool { return h.total > h.most }

// narrow says whether the table of p has no room for all.
func (r *room) narrow(p netip.Prefix) bool {
	name, most := r.of.Room(p)
	h := r.tables[name]
	return most > 0 && h != nil && h.full()
}

// pick is the hottest bans of the tables that have no room for all.
func (r *room) pick(all banSeq, hits func([]firewall.Ban) map[netip.Prefix]firewall.Hits, coolest map[string]threshold) (chosen []firewall.Ban) {
	taken, last := map[string]int{}, map[string]int{}
	classified(r.narrowed(all), hits, func(b firewall.Ban, class int) {
		name, most := r.of.Room(b.Prefix)
		t := coolest[name]
		if class < t.class || class == t.class && last[name] >= t.of || taken[name] >= most {
			return
		}
		if class == t.class {
			last[name]++
		}
		taken[name]++
		chosen = append(chosen, b)
	})
	for name, h := range r.tables {
		if h.full() {
			h.bans, h.left = taken[name], h.total-taken[name]
		}
	}
	return chosen
}

// narrowed are the bans of the tables that have no room for all.
func (r *room) narrowed(all banSeq) banSeq {
	return func(yield func(firewall.Ban) bool) {
		for b := range all {
			if r.narrow(b.Prefix) && !yield(b) {
				return
			}
		}
	}
}

// threshold is the coolest class of which bans are taken, and how many of it.
type threshold struct{ class, of int }

func (r *room) thresholds(all banSeq, hits func([]firewall.Ban) map[netip.Prefix]firewall.Hits) map[string]threshold {
	counts := map[string]map[int]int{}
	classified(r.narrowed(all), hits, func(b firewall.Ban, class int) {
		name, _ := r.of.Room(b.Prefix)
		if counts[name] == nil {
			counts[name] = map[int]int{}
		}
		counts[name][class]++
	})
	list := map[string]threshold{}
	for name, n := range counts {
		left := r.tables[name].most - r.tables[name].most/8
		for _, c := range slices.Backward(slices.Sorted(maps.Keys(n))) {
			list[name] = threshold{c, min(n[c], left)}
			if left -= n[c]; left <= 0 {
				break
			}
		}
	}
	return list
}

// classified hands on bans with their classes.
func classified(all banSeq, hits func([]firewall.Ban) map[netip.Prefix]firewall.Hits, each func(firewall.Ban, int)) {
	buf := make([]firewall.Ban, 0, hotChunk)
	flush := func() {
		dropped := hits(buf)
		for _, b := range buf {
			each(b, class(b, dropped[b.Prefix].Packets))
		}
		buf = buf[:0]
	}
	for b := range all {
		if buf = append(buf, b); len(buf) == hotChunk {
			flush()
		}
	}
	flush()
}

// hitsOfOthers is what engines other than e have dropped of bans.
func (es *engines) hitsOfOthers(e *engine, bans []firewall.Ban) map[netip.Prefix]firewall.Hits {
	prefixes := make([]netip.Prefix, len(bans))
	for i, b := range bans {
		prefixes[i] = b.Prefix
	}
	for _, other := range es.list {
		if other == e || !other.working() {
			continue
		}
		if have, err := other.enf.Hits(context.Background(), prefixes); err == nil {
			return have
		}
	}
	return nil
}

// leftOut is how many bans are in the ledger and not in the engine, by table.
func (e *engine) leftOut() map[string]held {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]held{}
	if e.room != nil && e.wanted && e.filled {
		for name, h := range e.room.tables {
			if h.left > 0 {
				out[name] = *h
			}
		}
	}
	return out
}

// meant says whether every ban of p's table is to be in the engine.
func (e *engine) meant(p netip.Prefix) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.room == nil {
		return true
	}
	name, most := e.room.of.Room(p)
	h := e.room.tables[name]
	return most == 0 || h == nil || h.left == 0
}

// refit has the choice made again where bans that were left out fit by now.
func (e *engine) refit(all banSeq) {
	left := e.leftOut()
	if len(left) == 0 {
		return
	}
	now := map[string]int{}
	for b := range all {
		if name, most := e.room.of.Room(b.Prefix); most > 0 {
			now[name]++
		}
	}
	for name, h := range left {
		if now[name] <= h.most-h.most/8 {
			e.chooseAgain()
			return
		}
	}
}

func (e *engine) chooseAgain() {
	e.mu.Lock()
	e.replace = true
	e.mu.Unlock()
	e.nudge()
}

// fullAlarms say which bans are where when a table is full.
func (s *Server) fullAlarms() (alarms []Alarm) {
	for _, e := range s.engines.list {
		for name, h := range e.leftOut() {
			where := "are not enforced in the kernel, only at the gate"
			for _, other := range s.engines.list {
				if other != e && other.working() && other.stands() && len(other.leftOut()) == 0 {
					where = "are enforced by " + other.name + " only"
				}
			}
			alarms = append(alarms, Alarm{e.name + "_full", fmt.Sprintf(
				"%s has room for %d %s, and holds the hottest %d of %d: the other %d %s (ban wider prefixes, or lift what is not needed)",
				e.name, h.most, name, h.bans, h.total, h.left, where)})
		}
	}
	return alarms
}
