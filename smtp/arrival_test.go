package smtp_test

import (
	"net/netip"
	"slices"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/reply"
)

// from is what each address comes from: 127.0.0.7 and .99 are banned there.
type from struct{}

func (from) Lookup(a netip.Addr) (string, uint32) {
	switch a.String() {
	case "127.0.0.7", "127.0.0.99":
		return "KP", 0
	case "127.0.0.6":
		return "NL", 64500
	}
	return "NL", 0
}

func bannedPlaces(t *testing.T, observe bool) *world {
	return newWorld(t, func(w *world) {
		w.opts.Origins = from{}
		w.opts.Policy.Chain = check.Policy{MaxRecipients: 3, GeoBan: []string{"KP", "AS64500"}}.Chain()
		w.opts.Policy.Observe = observe
	})
}

// geo.ban: the first completed connection is an offence, without a word said or
// heard; who is protected comes in.
func TestFirstConnectionFromABannedPlace(t *testing.T) {
	w := bannedPlaces(t, false)
	w.refused("127.0.0.7")
	w.refused("127.0.0.6")
	w.dial("127.0.0.8").expect("220 ")
	w.dial("127.0.0.99").expect("220 ")
	if got := w.offender.filed(); !slices.Equal(got, []string{"127.0.0.7", "127.0.0.6"}) {
		t.Fatalf("offences of %v", got)
	}
	if r := w.recorder.wait(t, 0); r.Outcome != smtp.Dropped || r.Reason != reply.Geo {
		t.Errorf("record: %s %s", r.Outcome, r.Reason)
	}
	c := w.recorder.convictions()
	if len(c) != 2 || !c[0].enforced || c[0].evidence.Rule != "geo.ban KP" || c[1].evidence.Rule != "geo.ban AS64500" {
		t.Errorf("convictions: %+v", c)
	}
}

func TestObserveOfABannedPlace(t *testing.T) {
	w := bannedPlaces(t, true)
	c := w.dial("127.0.0.7")
	c.expect("220 ")
	c.ask("QUIT", "221")
	got := w.recorder.convictions()
	if len(w.offender.filed()) > 0 || len(got) != 1 || got[0].left != smtp.LeftObserve {
		t.Errorf("offences %v, convictions %+v", w.offender.filed(), got)
	}
}

// weir test says what would become of the connection.
func TestProbeFromABannedPlace(t *testing.T) {
	w := bannedPlaces(t, false)
	d := w.server.Test(t.Context(), smtp.Probe{From: netip.MustParseAddr("127.0.0.7"), HELO: "client.example"})
	if d.Reason != reply.Geo || d.Outcome == smtp.Accepted || len(w.offender.filed()) > 0 {
		t.Errorf("decided %s %s, offences %v", d.Outcome, d.Reason, w.offender.filed())
	}
}
