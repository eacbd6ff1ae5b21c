package guard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"mailweir/firewall"
)

// What weir status says is wrong, the mail role hears too, and can tell the
// collectors (R-MC-07). It is asked over the socket for offences.
func TestAlarmsAreToldToTheMailRole(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	c := g.client()
	if all := must(c.Alarms(ctx))(t); len(all) != 0 {
		t.Errorf("alarms of a sound guard: %v", all)
	}
	for i := range 201 {
		g.s.ledger.ConvictNetwork(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), firewall.Harvest, 1, 0)
	}
	must(g.op.Switch(ctx, false))(t)
	eventually(t, "both alarms", func() bool {
		all := must(c.Alarms(ctx))(t)
		return len(all) == 2 && all[0].Name == "firewall_off" && all[1].Name == "hurry" && strings.Contains(all[1].Text, "new ones last an hour")
	})
	must(g.op.Switch(ctx, true))(t)
	eventually(t, "one alarm", func() bool {
		all := must(c.Alarms(ctx))(t)
		return len(all) == 1 && all[0].Name == "hurry"
	})
	if st := g.status(); len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], "200 bans") {
		t.Errorf("weir status: %q", st.Alarms)
	}
}

// Bans, those lifted, and what the operator orders, the mail role hears in
// order, each once, and more than one answer holds (R-MC-07).
func TestEventsAreToldToTheMailRole(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	c := g.client()
	p := netip.MustParsePrefix("203.0.113.7/32")
	must(g.op.Ban(ctx, BanRequest{Prefix: p, Why: "he asked for it"}))(t)
	must(g.op.Unban(ctx, p))(t)
	must(g.op.Allow(ctx, AllowRequest{Prefix: p, Why: "a friend", Author: "anna"}))(t)
	must(g.op.Switch(ctx, false))(t)
	e := must(c.Events(ctx, 0))(t)
	var got []string
	for _, x := range e.Events {
		got = append(got, fmt.Sprintf("%s %s %s %s", x.Kind, x.By, x.What, x.Why))
	}
	want := []string{"ban operator  he asked for it", "unban operator  ", "change anna allow 203.0.113.7/32 allowed: a friend", "change operator firewall off"}
	if !slices.Equal(got, want) || e.Events[0].Prefix != p || e.Events[0].Until.IsZero() || e.Next != 4 || e.Missed != 0 {
		t.Errorf("got %q of %+v, want %q", got, e, want)
	}
	if e := must(c.Events(ctx, e.Next))(t); len(e.Events) != 0 || e.Next != 4 {
		t.Errorf("told twice: %+v", e)
	}
	for range 3 * keptEvents {
		g.s.logs.changed(operator, "x", strings.Repeat("é", 1000))
	}
	heard, missed := 0, uint64(0)
	for from := uint64(4); ; {
		e := must(c.Events(ctx, from))(t)
		if missed += e.Missed; len(e.Events) == 0 {
			break
		}
		heard, from = heard+len(e.Events), e.Next
	}
	if heard+int(missed) != 3*keptEvents || heard < keptEvents {
		t.Errorf("%d heard, %d missed, of %d", heard, missed, 3*keptEvents)
	}
}

func TestAlarmsOfOneNameAreOne(t *testing.T) {
	got := joined([]Alarm{{"hosts", "a"}, {"geo", "b"}, {"hosts", "c"}, {"start", strings.Repeat("x", 10_000)}})
	if len(got) != 3 || got[0] != (Alarm{"hosts", "a; c"}) || got[1] != (Alarm{"geo", "b"}) || len(got[2].Text) > maxAlarmText+40 {
		t.Errorf("got %.80q", fmt.Sprint(got))
	}
}
