package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"mailweir/firewall"
)

// reasons are what the packet program counts packets under, in its order.
var reasons = [...]string{
	"not_ip", "vlan", "malformed", "local", "not_tcp", "unprotected",
	"clean", "no_port", "allowed", "observed", "banned", "geo",
	"syn_limit", "flood", "explained",
}

// Hits says what each ban among prefixes dropped. Its keys are prefixes as
// given; those that are not banned, or not any more, are missing.
func (t *Table) Hits(ctx context.Context, prefixes []netip.Prefix) (map[netip.Prefix]firewall.Hits, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	now, err := t.moment()
	if err != nil {
		return nil, err
	}
	hits := make(map[netip.Prefix]firewall.Hits)
	for _, given := range prefixes {
		p, err := canonical(given)
		if err != nil {
			return nil, err
		}
		n, _ := place(p)
		b, found, err := t.tables[n].get(p)
		if err != nil {
			return nil, err
		}
		if !found || b.until <= now.kernel {
			continue
		}
		h := firewall.Hits{Packets: b.hits}
		if b.first != 0 {
			h.First = now.toWall(b.first)
		}
		hits[given] = h
	}
	return hits, nil
}

// Status asks the kernel. It reads every ban to count those that stand: a
// hundredth of a second for a million.
func (t *Table) Status(ctx context.Context) (firewall.Status, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return firewall.Status{}, err
	}
	s := firewall.Status{Engine: "xdp", Flood: t.word()&cfgFlood != 0}
	for _, name := range t.rules.Interfaces {
		is, err := t.interfaceStatus(name)
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		s.Interfaces = append(s.Interfaces, is)
	}
	if t.growthErr != nil {
		s.Problems = append(s.Problems, t.growthErr.Error())
	}
	var err error
	if s.Bans, err = t.countBans(); err != nil {
		return s, err
	}
	if s.Counters, err = t.readCounters(); err != nil {
		return s, err
	}
	s.Places, err = t.readPlaces()
	return s, err
}

// Counters reads what was counted.
func (t *Table) Counters(ctx context.Context) (c firewall.Counters, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return c, err
	}
	if c.Reasons, err = t.readCounters(); err == nil {
		c.Places, err = t.readPlaces()
	}
	return c, err
}

func (t *Table) interfaceStatus(name string) (firewall.InterfaceStatus, error) {
	is := firewall.InterfaceStatus{Name: name, Note: t.notes[name]}
	d, err := t.standing(name)
	if err != nil {
		is.Note = err.Error()
		return is, err
	}
	is.Mode = string(d.mode)
	return is, nil
}

// standing asks the kernel whether our program is on the interface.
func (t *Table) standing(name string) (device, error) {
	d, err := findDevice(name)
	if err != nil {
		return d, err
	}
	if d.prog == t.progID || t.displaces {
		return d, nil
	}
	if d.prog == 0 {
		return d, fmt.Errorf("interface %s: the packet program is not attached (weir firewall on)", name)
	}
	return d, &ForeignError{Interface: name, ID: d.prog, Name: nameOf(d.prog)}
}

// Intact asks whether our program is on every interface it should be on, and
// would stay if this process died.
func (t *Table) Intact(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.obj == nil {
		return errors.New("nothing is in the kernel (weir firewall on)")
	}
	var errs error
	for _, name := range t.rules.Interfaces {
		d, err := t.standing(name)
		if err == nil {
			_, err = os.Lstat(t.pins().link(d.index))
		}
		errs = errors.Join(errs, err)
	}
	return errors.Join(errs, t.watchFlood())
}

func (t *Table) countBans() (n int, err error) {
	now, err := t.moment()
	if err != nil {
		return 0, err
	}
	for _, table := range t.tables {
		err := table.each(func(e entry) {
			if e.until > now.kernel {
				n++
			}
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (t *Table) readCounters() (map[string]uint64, error) {
	counters := make(map[string]uint64, len(reasons))
	for i, name := range reasons {
		var perCPU []uint64
		if err := t.obj.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read counter %s: %w", name, err)
		}
		for _, v := range perCPU {
			counters[name] += v
		}
	}
	return counters, nil
}
