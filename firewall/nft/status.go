package nft

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// seen is how the kernel's answers looked after our last change: what Intact
// compares with.
type seen struct {
	base       bool                // the sets were written
	generation uint32              // of the whole ruleset when ours was last found whole
	rules      map[string][]uint64 // handles, by chain
	witnesses  map[banSet]witness
	counts     counts
}

// witness is the ban of a set that stands longest. When it is missing before
// its time somebody has flushed the set.
type witness struct {
	prefix netip.Prefix
	until  time.Time
}

// note keeps the witnesses up to date with a change.
func (s *seen) note(now time.Time, plans map[banSet]*plan) {
	if s.witnesses == nil {
		s.witnesses = make(map[banSet]witness)
	}
	for set, p := range plans {
		w := s.witnesses[set]
		if p.flush {
			w = witness{}
		}
		s.counts.of(set).wrote(now, p.flush, len(p.add)-len(p.lift))
		for _, list := range [][]element{p.lift, p.refresh} {
			for _, e := range list {
				if e.prefix == w.prefix {
					w = witness{}
				}
			}
		}
		for _, list := range [][]element{p.refresh, p.add} {
			for _, e := range list {
				if until := now.Add(e.left); until.After(w.until) {
					w = witness{e.prefix, until}
				}
			}
		}
		s.witnesses[set] = w
	}
}

// Generation is the number of the kernel's ruleset, which every change by
// anybody raises.
func Generation(ctx context.Context) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	sock, err := dial()
	if err != nil {
		return 0, err
	}
	defer sock.close()
	b := sock.message(nil, request(unix.NFT_MSG_GETGEN), unix.NLM_F_REQUEST, unix.AF_UNSPEC, 0)
	seal(b, 0)
	if err := sock.send(b); err != nil {
		return 0, explain("ask for the ruleset's generation", err)
	}
	var generation uint32
	err = sock.answers(sock.seq, func(body []byte) error {
		eachAttr(body, func(typ uint16, data []byte) {
			if typ == unix.NFTA_GEN_ID && len(data) == 4 {
				generation = binary.BigEndian.Uint32(data)
			}
		})
		return nil
	})
	return generation, explain("ask for the ruleset's generation", err)
}

// remember notes how our table looks after a change of ours.
func (t *Table) remember() error {
	rules, err := t.readRules()
	if err != nil {
		return err
	}
	t.seen.base, t.seen.rules = true, rules
	t.seen.generation = 0 // somebody may have come between: Intact has to look
	return nil
}

// readRules reads the handles of the rules of each of our chains. Rules that
// are replaced or added have new ones.
func (t *Table) readRules() (map[string][]uint64, error) {
	rules := make(map[string][]uint64)
	if !t.configured {
		return rules, nil
	}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	if stands, err := present(c); err != nil || !stands {
		return nil, cmp.Or(err, errGone)
	}
	for _, chain := range chains {
		list, err := c.GetRules(table, chain)
		if err != nil {
			return nil, explain("read rules of chain "+chain.Name, err)
		}
		for _, r := range list {
			rules[chain.Name] = append(rules[chain.Name], r.Handle)
		}
	}
	return rules, nil
}

// Intact asks whether the table is as we left it. When nobody has changed the
// ruleset, that is one small question.
func (t *Table) Intact(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.configured {
		return errors.New("no rules are in the kernel (weir firewall on)")
	}
	generation, err := Generation(ctx)
	if err != nil {
		return err
	}
	if generation == t.seen.generation {
		return nil
	}
	if err := t.inspect(); err != nil {
		return err
	}
	t.seen.generation = generation
	return nil
}

// inspect looks at the table itself.
func (t *Table) inspect() error {
	rules, err := t.readRules()
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if !slices.Equal(rules[chain.Name], t.seen.rules[chain.Name]) {
			return fmt.Errorf("table inet %s: somebody has changed the rules of chain %s (nft list table inet %s shows them)", tableName, chain.Name, tableName)
		}
	}
	if err := inspectHook(); err != nil {
		return err
	}
	if err := t.deniedStand(); err != nil {
		return err
	}
	return t.inspectSets()
}

func inspectHook() error {
	c, err := connect()
	if err != nil {
		return err
	}
	chain, err := c.ListChain(table, chainIn.Name)
	if err != nil {
		return explain("look up chain "+chainIn.Name, err)
	}
	if chain.Hooknum == nil || *chain.Hooknum != *chainIn.Hooknum || *chain.Priority != *chainIn.Priority {
		return fmt.Errorf("table inet %s: chain %s is not at prerouting any more", tableName, chainIn.Name)
	}
	return nil
}

// inspectSets asks for the ban of each set that stands longest. One that ends
// within the second is no proof.
func (t *Table) inspectSets() error {
	sock, err := dial()
	if err != nil {
		return err
	}
	defer sock.close()
	soon := t.opt.Clock().Add(time.Second)
	for s, w := range t.seen.witnesses {
		if w.until.Before(soon) {
			continue
		}
		_, found, err := s.get(sock, w.prefix)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("table inet %s: somebody has emptied set %s", tableName, s.name())
		}
	}
	return nil
}

// Hits says what each ban among prefixes dropped. Its keys are prefixes as
// given; those that are not banned are missing. nftables does not say when the
// first packet came.
func (t *Table) Hits(ctx context.Context, prefixes []netip.Prefix) (map[netip.Prefix]firewall.Hits, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	given := make(map[netip.Prefix]netip.Prefix, len(prefixes))
	for _, p := range prefixes {
		c, err := canonical(p)
		if err != nil {
			return nil, err
		}
		given[p] = c
	}
	have, err := t.find(maps.Values(given), len(given))
	if err != nil {
		return nil, explain("read hits", err)
	}
	hits := make(map[netip.Prefix]firewall.Hits)
	for p, c := range given {
		if e, found := have[c]; found {
			hits[p] = firewall.Hits{Packets: e.packets}
		}
	}
	return hits, nil
}

// Status asks the kernel. It reads the bans to count those that stand; a long
// list only now and then, where the kernel does not say how long it is, and then
// it takes seconds, in which bans go on being written.
func (t *Table) Status(ctx context.Context) (firewall.Status, error) {
	s := firewall.Status{Engine: "nft", Counters: make(map[string]uint64)}
	sets, problem, err := t.snapshot(ctx)
	if err != nil {
		return s, err
	}
	if problem != nil {
		s.Problems = append(s.Problems, problem.Error())
	}
	for _, set := range sets {
		n, err := t.count(set)
		if err != nil && !gone(err) {
			return s, explain("count bans", err)
		}
		s.Bans += n
	}
	return s, readCounters(s.Counters)
}

// Counters reads what was counted.
func (t *Table) Counters(ctx context.Context) (firewall.Counters, error) {
	c := firewall.Counters{Reasons: make(map[string]uint64)}
	if err := ctx.Err(); err != nil {
		return c, err
	}
	return c, readCounters(c.Reasons)
}

// snapshot is what Status needs of Table: its sets, and what is wrong.
func (t *Table) snapshot(ctx context.Context) (sets []banSet, problem, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return nil, nil, err
	}
	if t.configured {
		problem = t.inspect()
	}
	return order(t.sets), problem, nil
}

func readCounters(counters map[string]uint64) error {
	c, err := connect()
	if err != nil {
		return err
	}
	for _, name := range counterNames {
		counters[name] = 0
	}
	if stands, err := present(c); err != nil || !stands {
		return err
	}
	list, err := c.GetNamedObjects(table)
	if err != nil {
		return explain("read counters", err)
	}
	for _, o := range list {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if v, ok := named.Obj.(*expr.Counter); ok {
			counters[named.Name] = v.Packets
		}
	}
	return nil
}
