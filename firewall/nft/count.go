package nft

import "time"

// counts are how many bans sets hold: what was read once, and all that we have
// written since. Long lists are read again rarely, for the bans that have ended: a
// kernel that does not say how long a list is takes out of proportion longer for
// long ones.
type counts map[banSet]*counted

type counted struct {
	bans   int
	at     time.Time     // when they were read; zero: not yet
	took   time.Duration // to read them
	writes int           // how often bans were written
}

// readPart is which part of the time may be spent on reading a list again.
const readPart = 50

// of is the count of a set.
func (c *counts) of(s banSet) *counted {
	if *c == nil {
		*c = make(counts)
	}
	if (*c)[s] == nil {
		(*c)[s] = new(counted)
	}
	return (*c)[s]
}

// wrote notes a change: more bans than before, or, after a flush, so many.
func (n *counted) wrote(now time.Time, flush bool, more int) {
	if flush {
		n.bans, n.at, n.took = 0, now, 0
	}
	n.bans += more
	n.writes++
}

// many says whether the set is known to hold so many bans that they are better
// not read.
func (n *counted) many(now time.Time) bool {
	age := now.Sub(n.at)
	return !n.at.IsZero() && n.bans > quickRead && age >= 0 && age < max(time.Minute, readPart*n.took)
}

// was notes what was read. When bans were written meanwhile, those that we counted
// are nearer to the truth.
func (n *counted) was(bans, writes int, began, now time.Time) {
	if n.writes == writes {
		n.bans = bans
	} else if n.at.IsZero() {
		return
	}
	n.at, n.took = now, now.Sub(began)
}

// many says whether the sets together hold many bans, as far as is known.
func (t *Table) many() bool {
	now := t.opt.Clock()
	for s := range t.sets {
		if t.seen.counts.of(s).many(now) {
			return true
		}
	}
	return false
}

// count is how many bans stand in a set. While they are read, others are written.
func (t *Table) count(s banSet) (bans int, err error) {
	sock, err := dial()
	if err != nil {
		return 0, err
	}
	defer sock.close()
	size, known, err := s.size(sock)
	if err != nil || known && size > quickRead {
		return size, err
	}
	t.mu.Lock()
	began := t.opt.Clock()
	n := t.seen.counts.of(s)
	many, writes := n.many(began), n.writes
	bans = n.bans
	t.mu.Unlock()
	if many {
		return bans, nil
	}
	bans = 0
	if err := s.dump(func(element) bool { bans++; return true }); err != nil {
		return bans, err
	}
	t.mu.Lock()
	n.was(bans, writes, began, t.opt.Clock())
	t.mu.Unlock()
	return bans, nil
}
