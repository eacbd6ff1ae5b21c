package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"mailweir/firewall"
)

// place says which table holds a prefix, and the bit of cfg that makes the
// packet program ask it.
func place(p netip.Prefix) (table int, flag uint64) {
	if p.Addr().Is4() {
		if p.Bits() == 32 {
			return inBan4, cfgBan4
		}
		return inPrefix4, cfgPrefix4
	}
	switch p.Bits() {
	case 128:
		return inBan6, cfgBan128
	case 64:
		return inBan6, cfgBan64
	case 56:
		return inBan6, cfgBan56
	case 48:
		return inBan6, cfgBan48
	}
	return inPrefix6, cfgPrefix6
}

// Apply adds and lifts bans. A prefix that is in both lists stands; one whose
// ban is already over is lifted.
func (t *Table) Apply(ctx context.Context, add, del []firewall.Ban) error {
	t.mu.Lock()
	err := t.apply(ctx, add, del)
	t.mu.Unlock()
	if !errors.Is(err, errFull) {
		return err
	}
	defer t.lockWhole()()
	t.alone = true
	defer func() { t.alone = false }()
	return t.apply(ctx, add, del)
}

func (t *Table) apply(ctx context.Context, add, del []firewall.Ban) error {
	if err := errors.Join(t.ready(ctx), t.hintsIn()); err != nil {
		return err
	}
	now, err := t.moment()
	if err != nil {
		return err
	}
	tx, err := t.plan(now, add, del)
	if err != nil {
		return err
	}
	return t.commit(tx)
}

// transaction is what is to happen to the tables, and how to take it back.
type transaction struct {
	flags uint64 // of cfg that the new bans need
	now   uint64
	table [tableCount]struct {
		put    []entry
		remove []netip.Prefix
		was    []entry        // what put and remove found
		added  []netip.Prefix // what put did not find
	}
}

func (t *Table) plan(now moment, add, del []firewall.Ban) (*transaction, error) {
	tx := &transaction{now: now.kernel}
	stays := make(map[netip.Prefix]bool, min(len(add), len(add)*len(del)))
	tx.makeRoom(add)
	for _, b := range add {
		p, err := canonical(b.Prefix)
		if err != nil {
			return nil, err
		}
		until := now.toKernel(b.Until)
		if until <= now.kernel {
			del = append(del[:len(del):len(del)], b)
			continue
		}
		if len(del) > 0 {
			stays[p] = true
		}
		if err := t.planBan(tx, p, until); err != nil {
			return nil, err
		}
	}
	for _, b := range del {
		p, err := canonical(b.Prefix)
		if err != nil {
			return nil, err
		}
		if stays[p] {
			continue
		}
		if err := t.planRemoval(tx, p); err != nil {
			return nil, err
		}
	}
	return tx, nil
}

// makeRoom spares long lists their growing.
func (tx *transaction) makeRoom(add []firewall.Ban) {
	var count [tableCount]int
	for i := range add {
		if p := add[i].Prefix; p.IsValid() {
			n, _ := place(p)
			count[n]++
		}
	}
	for n, some := range count {
		tx.table[n].put = make([]entry, 0, some)
		tx.table[n].added = make([]netip.Prefix, 0, some)
	}
}

func canonical(p netip.Prefix) (netip.Prefix, error) {
	c := firewall.Canonical(p)
	if !c.IsValid() {
		return c, fmt.Errorf("ban %q: not a prefix of IPv4 or IPv6", p)
	}
	return c, nil
}

func (t *Table) planBan(tx *transaction, p netip.Prefix, until uint64) error {
	n, flag := place(p)
	old, found, err := t.tables[n].get(p)
	if err != nil {
		return err
	}
	tx.put(n, flag, entry{p, ban{until: until}})
	if found {
		tx.table[n].was = append(tx.table[n].was, entry{p, old})
	} else {
		tx.table[n].added = append(tx.table[n].added, p)
	}
	return nil
}

func (tx *transaction) put(n int, flag uint64, e entry) {
	tx.flags |= flag
	tx.table[n].put = append(tx.table[n].put, e)
}

func (t *Table) planRemoval(tx *transaction, p netip.Prefix) error {
	n, _ := place(p)
	old, found, err := t.tables[n].get(p)
	if err != nil || !found {
		return err
	}
	tx.table[n].remove = append(tx.table[n].remove, p)
	tx.table[n].was = append(tx.table[n].was, entry{p, old})
	return nil
}

// commit writes tx, or takes back what it has written. Flags go first: a ban
// in a table that is not asked would not be one. Removals make room for what
// is added, and never touch what is to stand.
func (t *Table) commit(tx *transaction) error {
	for n := range tx.table {
		c := &tx.table[n]
		if err := t.tables[n].reserve(len(c.added) - len(c.remove)); err != nil {
			return err
		}
	}
	t.setWord(t.word() | tx.flags)
	if err := t.write(tx); err != nil {
		return errors.Join(err, t.takeBack(tx))
	}
	return nil
}

func (t *Table) write(tx *transaction) error {
	for n := range tx.table {
		if err := t.tables[n].remove(tx.table[n].remove); err != nil {
			return err
		}
		if err := t.tables[n].put(tx.now, tx.table[n].put); err != nil {
			return err
		}
	}
	return nil
}

// takeBack restores the tables; hits of the moments between are lost.
func (t *Table) takeBack(tx *transaction) error {
	var errs error
	for n := range tx.table {
		errs = errors.Join(errs, t.tables[n].remove(tx.table[n].added), t.tables[n].restore(tx.table[n].was))
	}
	if errs != nil {
		return fmt.Errorf("take back a half-written change (call Replace): %w", errs)
	}
	return nil
}
