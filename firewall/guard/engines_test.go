package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mailweir/firewall"
)

// An engine that fails is no reason not to serve: the next one enforces, and
// the first is filled when it comes back.
func TestLadder(t *testing.T) {
	needRoot(t)
	first, second := newFake(), newFake()
	first.fail = errors.New("no room in the table")
	g := newRig(t, []Engine{
		{Name: "absent", Enforcer: (*fakeEngine)(nil), Err: errors.New("this kernel has none of it: use a newer one")},
		{Name: "first", Enforcer: first}, {Name: "second", Enforcer: second},
	}, nil)
	g.ban("203.0.113.7/32")
	if !second.has("203.0.113.7/32") {
		t.Errorf("the engine that works holds %v", second.all())
	}
	st := g.status()
	if st.Engines[0].Working || st.Engines[1].Working || !st.Engines[2].Working ||
		!strings.Contains(strings.Join(st.Alarms, "\n"), "no room in the table") || !strings.Contains(strings.Join(st.Alarms, "\n"), "a newer one") {
		t.Errorf("status: %+v", st)
	}
	first.with(func() { first.fail = nil })
	g.s.mend(ctx)
	eventually(t, "the ban in the engine that came back", func() bool { return first.has("203.0.113.7/32") })
	eventually(t, "one alarm", func() bool { return len(g.status().Alarms) == 1 })
}

func TestNoEngine(t *testing.T) {
	needRoot(t)
	g := newRig(t, []Engine{{Name: "xdp", Err: errors.New("no")}}, nil)
	if c := g.ban("203.0.113.7/32"); len(c.Warnings) != 1 {
		t.Errorf("got %+v", c)
	}
	if st := g.status(); !strings.Contains(strings.Join(st.Alarms, "\n"), "no engine works") {
		t.Errorf("alarms: %v", st.Alarms)
	}
}

// One ban that the engine refuses keeps no other out, and is tried again.
func TestRefusedBanIsTriedAgain(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	f.with(func() { f.fail = errors.New("table full") })
	g.ban("203.0.113.7/32")
	eventually(t, "a problem in the status", func() bool { return strings.Contains(fmt.Sprint(g.status().Alarms), "table full") })
	f.with(func() { f.fail = nil })
	g.ban("203.0.113.8/32")
	if !f.has("203.0.113.8/32") {
		t.Error("the second ban waits for the first")
	}
	g.s.mend(ctx)
	eventually(t, "the first ban", func() bool { return f.has("203.0.113.7/32") })
	eventually(t, "no alarm", func() bool { return len(g.status().Alarms) == 0 })
}

// A ban that the engine refused and the operator lifted does not come back.
func TestRefusedBanIsLifted(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	f.with(func() { f.fail = errors.New("table full") })
	g.ban("203.0.113.7/32")
	eventually(t, "a problem in the status", func() bool { return strings.Contains(fmt.Sprint(g.status().Alarms), "not in the kernel yet") })
	f.with(func() { f.fail = nil })
	must(g.op.Unban(ctx, pfx("203.0.113.7/32")))(t)
	g.s.engines.settle(ctx)
	g.s.mend(ctx)
	eventually(t, "no alarm", func() bool { return len(g.status().Alarms) == 0 })
	g.s.engines.settle(ctx)
	if f.has("203.0.113.7/32") {
		t.Error("the lifted ban is in the kernel")
	}
}

// A table that somebody flushed comes back by itself.
func TestForeignFlush(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	g.ban("203.0.113.7/32")
	f.with(func() { f.bans, f.gone = map[netip.Prefix]firewall.Ban{}, true })
	eventually(t, "the ban in the kernel again", func() bool { return f.has("203.0.113.7/32") })
}

// Single bans that vanish are found by asking for a sample.
func TestLostBanIsPutBack(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	g.ban("203.0.113.7/32")
	f.with(func() { delete(f.bans, pfx("203.0.113.7/32")) })
	g.s.mend(ctx)
	eventually(t, "the ban in the kernel again", func() bool { return f.has("203.0.113.7/32") })
}
