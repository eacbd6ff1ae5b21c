package nft

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"time"

	"mailweir/firewall"
)

const (
	// aFew look-ups are made one by one, even where whole sets can be read.
	aFew = 512
	// quickRead is how many bans are read in a few hundredths of a second.
	// Longer lists take out of proportion longer.
	quickRead = 30_000
	// sameEnd is how far apart two ends may be and count as one: more than a
	// tick of the slowest kernel clock, less than anybody notices.
	sameEnd = 50 * time.Millisecond
	// forEver stands for an end beyond what the kernel counts to.
	forEver = 100 * 365 * 24 * time.Hour
)

// plan is what has to happen to the elements of one set.
type plan struct {
	flush   bool      // all that is there goes
	add     []element // not there
	refresh []element // there with another end
	lift    []element // there, to go
}

// Apply adds and lifts bans. A prefix that is in both lists stands; one whose
// ban is already over is lifted.
func (t *Table) Apply(ctx context.Context, add, del []firewall.Ban) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return err
	}
	want := make(map[netip.Prefix]time.Duration, len(add)+len(del))
	for _, b := range del {
		p, err := canonical(b.Prefix)
		if err != nil {
			return err
		}
		want[p] = 0
	}
	now := t.opt.Clock()
	for _, b := range add {
		p, err := canonical(b.Prefix)
		if err != nil {
			return err
		}
		want[p] = left(now, b.Until)
	}
	if err := t.prepare(want); err != nil {
		return err
	}
	have, err := t.find(maps.Keys(want), len(want))
	if err != nil {
		return err
	}
	return t.change(ctx, now, difference(have, want))
}

// Replace makes bans the whole truth, in one transaction. Where few stand it is
// one of the difference: a ban that stands as it should is not touched, nor is
// its counter. Where many do, all are written anew and count from 0.
func (t *Table) Replace(ctx context.Context, bans iter.Seq[firewall.Ban]) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return err
	}
	now := t.opt.Clock()
	want := make(map[netip.Prefix]time.Duration)
	for b := range bans {
		p, err := canonical(b.Prefix)
		if err != nil {
			return err
		}
		if d := left(now, b.Until); d > 0 {
			want[p] = max(want[p], d)
		}
	}
	if err := t.prepare(want); err != nil {
		return err
	}
	var have map[netip.Prefix]element
	all, err := false, error(nil)
	if !t.many() {
		have, all, err = t.read(quickRead)
	}
	if err != nil {
		return err
	}
	if !all {
		return t.change(ctx, now, t.anew(want))
	}
	for p := range have {
		if _, stays := want[p]; !stays {
			want[p] = 0
		}
	}
	return t.change(ctx, now, difference(have, want))
}

// anew plans to write all sets from nothing.
func (t *Table) anew(want map[netip.Prefix]time.Duration) map[banSet]*plan {
	plans := difference(nil, want)
	for s := range t.sets {
		if plans[s] == nil {
			plans[s] = new(plan)
		}
		plans[s].flush = true
	}
	return plans
}

func canonical(p netip.Prefix) (netip.Prefix, error) {
	c := firewall.Canonical(p)
	if !c.IsValid() {
		return c, fmt.Errorf("ban %q: not a prefix of IPv4 or IPv6", p)
	}
	return c, nil
}

// left is how long a ban has to go; 0 when it is over.
func left(now, until time.Time) time.Duration {
	return min(max(until.Sub(now), 0), forEver)
}

// prepare makes sure that there is a set for every prefix to ban. A new set is
// empty, so that nothing changes for packets yet.
func (t *Table) prepare(want map[netip.Prefix]time.Duration) error {
	missing := !t.seen.base
	added := make(map[banSet]bool)
	for p, d := range want {
		if s := setOf(p); d > 0 && !t.sets[s] {
			t.sets[s], added[s], missing = true, true, true
		}
	}
	if !missing {
		return nil
	}
	if err := t.write(t.rules, t.configured); err != nil {
		for s := range added {
			delete(t.sets, s)
		}
		return err
	}
	return t.remember()
}

// find reads those of the prefixes that are banned.
func (t *Table) find(prefixes iter.Seq[netip.Prefix], n int) (map[netip.Prefix]element, error) {
	if n > aFew && !t.many() {
		if have, all, err := t.read(quickRead); all || err != nil {
			return have, err
		}
	}
	sock, err := dial()
	if err != nil {
		return nil, err
	}
	defer sock.close()
	have := make(map[netip.Prefix]element, n)
	for p := range prefixes {
		if !t.sets[setOf(p)] {
			continue
		}
		e, found, err := setOf(p).get(sock, p)
		if err != nil {
			return nil, err
		}
		if found {
			have[p] = e
		}
	}
	return have, nil
}

// read reads the bans, unless there are more than limit.
func (t *Table) read(limit int) (have map[netip.Prefix]element, all bool, err error) {
	have = make(map[netip.Prefix]element)
	for s := range t.sets {
		err := s.dump(func(e element) bool {
			have[e.prefix] = e
			return len(have) <= limit
		})
		if err != nil {
			return nil, false, explain("read bans", err)
		}
		if len(have) > limit {
			return nil, false, nil
		}
	}
	return have, true, nil
}

// difference plans how to get from have to want, where 0 means no ban.
func difference(have map[netip.Prefix]element, want map[netip.Prefix]time.Duration) map[banSet]*plan {
	plans := make(map[banSet]*plan)
	for p, d := range want {
		old, stands := have[p]
		if !stands && d == 0 || stands && d > 0 && (old.left-d).Abs() < sameEnd {
			continue
		}
		s := setOf(p)
		if plans[s] == nil {
			plans[s] = new(plan)
		}
		e := element{prefix: p, left: d, packets: old.packets, bytes: old.bytes}
		switch {
		case !stands:
			plans[s].add = append(plans[s].add, e)
		case d > 0:
			plans[s].refresh = append(plans[s].refresh, e)
		default:
			plans[s].lift = append(plans[s].lift, e)
		}
	}
	return plans
}

// change makes the planned changes in one transaction. Kernels before 6.12 do
// not give an element that is there another end, so it is removed and added;
// and what is removed is added before, because it may have ended since we
// looked, and removing what is not there would undo the whole transaction.
func (t *Table) change(ctx context.Context, now time.Time, plans map[banSet]*plan) error {
	tx, err := begin()
	if err != nil {
		return err
	}
	for s, p := range plans {
		if p.flush {
			tx.flush(s)
		}
		out := append(p.lift, p.refresh...)
		tx.add(s, lasting(out))
		tx.remove(s, out)
		tx.add(s, p.refresh)
		tx.add(s, p.add)
	}
	if err := tx.commit(ctx); err != nil {
		return explain("write bans", err)
	}
	t.seen.note(now, plans)
	return nil
}

// lasting is list with ends that do not come while the kernel works.
func lasting(list []element) []element {
	out := make([]element, len(list))
	for i, e := range list {
		out[i] = element{prefix: e.prefix, left: time.Hour}
	}
	return out
}
