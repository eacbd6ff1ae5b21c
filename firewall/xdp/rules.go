package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"mailweir/bpf"
	"mailweir/firewall"
)

const (
	portWords  = 65536 / 8 // of a generation in the map ports, eight ports a word
	maxAllow   = 4096      // entries of a generation in the map allow
	groupMail  = 1         // the one group of protected ports there is yet
	allowFixed = 32        // bits of an allow key before the address
)

// Configure makes rules the whole truth and stands on the interfaces. An
// interface it cannot stand on is an error that names it; the others are stood
// on all the same, and the rules are in force there.
func (t *Table) Configure(ctx context.Context, rules firewall.Rules) error {
	defer t.lockWhole()()
	if err := errors.Join(t.ready(ctx), t.hintsIn()); err != nil {
		return err
	}
	if err := t.writeRules(rules); err != nil {
		return err
	}
	if err := t.writePlaces(rules.World, rules.Deny); err != nil {
		return err
	}
	rules.Interfaces = slices.Clone(rules.Interfaces)
	t.rules, t.configured = rules, true
	return t.takeForce()
}

// writeRules fills the half of ports and allow that is not in force, and then
// turns to it with one store.
func (t *Table) writeRules(rules firewall.Rules) error {
	next := t.word()&1 ^ 1
	bpf.WaitForPackets() // one may be reading the half that was in force until the last change
	if err := t.writePorts(next, rules.Ports); err != nil {
		return err
	}
	if err := t.writeAllow(next, rules.Allow); err != nil {
		return err
	}
	t.writeLimits(rules)
	word := t.word()&^(cfgGeneration|cfgObserve|cfgExplain) | next
	reach(stepHalfRules)
	if rules.ExplainPerHour > 0 {
		word |= cfgExplain
	}
	if rules.FloodPerSecond != t.rules.FloodPerSecond { // what is a flood, the next look says
		word &^= cfgFlood
	}
	if rules.Observe {
		word |= cfgObserve
	}
	t.setWord(word)
	reach(stepRules)
	return nil
}

func (t *Table) writePorts(generation uint64, ports []uint16) error {
	keys, words := make([]uint32, portWords), make([]uint64, portWords)
	for i := range keys {
		keys[i] = uint32(generation)*portWords + uint32(i)
	}
	for _, p := range ports {
		words[p/8] |= groupMail << (p % 8 * 8)
	}
	if _, err := t.obj.Ports.BatchUpdate(keys, words, nil); err != nil {
		return fmt.Errorf("write protected ports: %w", err)
	}
	return nil
}

func (t *Table) writeAllow(generation uint64, allow []netip.Prefix) error {
	if len(allow) > maxAllow {
		return fmt.Errorf("write allow entries: %d, but at most %d fit (remove some, or use wider prefixes)", len(allow), maxAllow)
	}
	if err := t.clearAllow(generation); err != nil {
		return err
	}
	t.allow[generation].Rebuild(nil)
	for _, p := range allow {
		c := firewall.Canonical(p)
		if !c.IsValid() {
			return fmt.Errorf("allow %q: not a prefix of IPv4 or IPv6", p)
		}
		t.allow[generation].Add(c)
		if err := t.obj.Allow.Put(allowKey(generation, c), uint32(1)); err != nil {
			return fmt.Errorf("write allow entry %s: %w", p, err)
		}
	}
	return nil
}

func (t *Table) clearAllow(generation uint64) error {
	var stale []bpf.FilterAllowKey
	var key bpf.FilterAllowKey
	var value uint32
	for it := t.obj.Allow.Iterate(); ; {
		if !it.Next(&key, &value) {
			if err := it.Err(); err != nil {
				return fmt.Errorf("read allow entries: %w", err)
			}
			break
		}
		if uint64(key.Generation) == generation {
			stale = append(stale, key)
		}
	}
	var errs error
	for _, key := range stale {
		errs = errors.Join(errs, t.obj.Allow.Delete(key))
	}
	if errs != nil {
		return fmt.Errorf("remove old allow entries: %w", errs)
	}
	return nil
}

func allowKey(generation uint64, p netip.Prefix) bpf.FilterAllowKey {
	k := bpf.FilterAllowKey{Bits: uint32(allowFixed + p.Bits()), Generation: uint8(generation)}
	if p.Addr().Is4() {
		k.Family, k.Addr[0] = 4, word4(p.Addr())
	} else {
		k.Family, k.Addr = 6, words6(p.Addr())
	}
	return k
}
