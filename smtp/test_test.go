package smtp_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// weir test says what a live session would be told, and leaves no trace.
func TestProbe(t *testing.T) {
	w := guesser(t, nil)
	from, null := "a@client.example", ""
	for _, c := range []struct {
		name    string
		probe   smtp.Probe
		outcome smtp.Outcome
		reason  reply.Reason
		line    string
		last    string // check
	}{
		{"connection", smtp.Probe{}, smtp.Accepted, "", "", ""},
		{"known", smtp.Probe{Mail: &from, Rcpt: "alice@office.example"}, smtp.Accepted, "", "", "oracle"},
		{"unknown", smtp.Probe{Mail: &from, Rcpt: "nobody@office.example"}, smtp.Rejected, reply.UnknownUser, "550 5.1.1", "oracle"},
		{"null sender", smtp.Probe{Mail: &null, Rcpt: "nobody@office.example"}, smtp.Rejected, reply.UnknownUser, "550 5.1.1", "oracle"},
		{"relaying", smtp.Probe{Rcpt: "a@elsewhere.example"}, smtp.Rejected, reply.Relaying, "554 5.7.1", "relaying"},
		{"bad sender", smtp.Probe{Mail: new(string(`a"b`)), Rcpt: "alice@office.example"}, smtp.Rejected, reply.SenderSyntax, "501 5.1.7", "sender"},
		{"unqualified", smtp.Probe{Mail: &from, Rcpt: "joe"}, smtp.Rejected, reply.UnqualifiedRecipient, "550 5.1.3", "recipient"},
		{"utf8", smtp.Probe{Mail: &from, Rcpt: "jürgen@office.example"}, smtp.Rejected, reply.UTF8, "553 5.6.7", "recipient"},
	} {
		c.probe.From, c.probe.HELO = netip.MustParseAddr("192.0.2.1"), "client.example"
		d := w.server.Test(context.Background(), c.probe)
		if d.Outcome != c.outcome || d.Reason != c.reason || !strings.HasPrefix(d.Reply.Line(), c.line) {
			t.Errorf("%s: %s %q %q", c.name, d.Outcome, d.Reason, d.Reply.Line())
		}
		if strings.Contains(d.Reply.Text, "(ref") || d.Facts.Ref != 0 {
			t.Errorf("%s: has a ref that no record has: %q", c.name, d.Reply.Text)
		}
		if n := len(d.Steps); c.last != "" && (n == 0 || d.Steps[n-1].Name != c.last) {
			t.Errorf("%s: steps %+v, want the last to be %s", c.name, d.Steps, c.last)
		}
	}
	for i := range 20 {
		w.server.Test(context.Background(), smtp.Probe{From: netip.MustParseAddr("192.0.2.1"), Mail: &from, Rcpt: string(rune('a'+i)) + "@office.example"})
	}
	if n := len(w.recorder.all()) + len(w.recorder.convictions()) + len(w.offender.filed()) + len(w.server.Stats().Reasons); n != 0 {
		t.Errorf("the probes left %d traces", n)
	}
}

// weir test without a recipient asks the operator's lists as RCPT does: an entry
// that could let in by name lets in nobody who has not that name.
func TestProbeAsksTheLists(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.policy("helo_name", string(smtp.HELOPeer))
		w.policy("entry", "block_127.0.0.5")
		w.policy("entry", "allow_helo:friend.example")
	})
	for helo, want := range map[string]smtp.Outcome{"": smtp.Rejected, "client.example": smtp.Rejected, "friend.example": smtp.Accepted} {
		d := w.server.Test(context.Background(), smtp.Probe{From: netip.MustParseAddr("127.0.0.5"), HELO: helo})
		if d.Outcome != want || want == smtp.Rejected && (d.Reason != reply.Blocked || d.Reply.Code != 554) {
			t.Errorf("HELO %q: %s %q %q", helo, d.Outcome, d.Reason, d.Reply.Line())
		}
		if n := len(d.Steps); n == 0 || d.Steps[0].Name != "lists" && d.Steps[n-1].Name != "lists" {
			t.Errorf("HELO %q: no word of the lists: %+v", helo, d.Steps)
		}
	}
}
