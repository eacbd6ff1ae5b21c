package xdp

import (
	"context"
	"fmt"
	"iter"
	"net/netip"

	"mailweir/bpf"
	"mailweir/firewall"
)

// Replace makes bans the whole truth. A ban that stands and is to go on
// standing is written over in place and never missing for a moment; where a
// prefix occurs twice the later end counts.
func (t *Table) Replace(ctx context.Context, bans iter.Seq[firewall.Ban]) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
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
	tx, err := t.difference(now, want)
	if err != nil {
		return err
	}
	if err := t.commit(tx); err != nil {
		return err
	}
	t.filled = true
	if err := t.setWord(t.word&^cfgTables | tx.flags); err != nil {
		return err
	}
	if !t.displaces {
		return nil
	}
	return t.takeForce()
}

// wanted is the end of every ban to be, in kernel time, for each table.
type wanted [tableCount]map[netip.Prefix]uint64

func (t *Table) collect(ctx context.Context, now moment, bans iter.Seq[firewall.Ban]) (w wanted, err error) {
	for n := range w {
		w[n] = make(map[netip.Prefix]uint64)
	}
	for b := range bans {
		p, err := canonical(b.Prefix)
		if err != nil {
			return w, err
		}
		if until := now.toKernel(b.Until); until > now.kernel {
			n, _ := place(p)
			w[n][p] = max(w[n][p], until)
		}
	}
	for n := range w {
		if len(w[n]) > t.tables[n].capacity() {
			return w, fmt.Errorf("replace bans: %d for a table of %d (give weir fewer bans, or wider prefixes)", len(w[n]), t.tables[n].capacity())
		}
	}
	return w, ctx.Err()
}

// difference finds what has to happen to make the tables hold want. It empties
// want.
func (t *Table) difference(now moment, want wanted) (*transaction, error) {
	tx := new(transaction)
	for n := range want {
		if err := t.differ(tx, n, now, want[n]); err != nil {
			return nil, err
		}
	}
	return tx, nil
}

func (t *Table) differ(tx *transaction, n int, now moment, want map[netip.Prefix]uint64) error {
	c := &tx.table[n]
	err := t.tables[n].each(func(old entry) {
		c.was = append(c.was, old)
		until, stays := want[old.prefix]
		if !stays {
			c.remove = append(c.remove, old.prefix)
			return
		}
		_, flag := place(old.prefix)
		tx.put(n, flag, entry{old.prefix, renewed(old.ban, now, old.prefix, until)})
		delete(want, old.prefix)
	})
	if err != nil {
		return err
	}
	for p, until := range want {
		_, flag := place(p)
		tx.put(n, flag, entry{p, renewed(bpf.FilterBan{}, now, p, until)})
		c.added = append(c.added, p)
	}
	return nil
}
