package smtp_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// bans is a Gate that knows one banned address.
type bans struct {
	addr    netip.Addr
	explain bool
	panics  bool
}

func (b bans) Banned(a netip.Addr) (smtp.Standing, bool) {
	if b.panics {
		panic("guard's answer made no sense")
	}
	id, _ := ref.Parse("K7QM-2V9D-4XTR")
	until := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	return smtp.Standing{Until: until, Ref: id, Explain: b.explain}, a == b.addr
}

func gated(t *testing.T, b bans, observe bool) *world {
	b.addr = netip.MustParseAddr("127.0.0.7")
	return newWorld(t, func(w *world) { w.opts.Gate, w.opts.Policy.Observe = b, observe })
}

func TestBannedAtTheGate(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		w := gated(t, bans{}, false)
		w.refused("127.0.0.7")
		w.dial("127.0.0.8").expect("220 ")
		if r := w.recorder.wait(t, 0); r.Outcome != smtp.Dropped || r.Reason != reply.Banned {
			t.Errorf("record: %s %s", r.Outcome, r.Reason)
		}
	})
	t.Run("explained", func(t *testing.T) { // R-CX-01
		w := gated(t, bans{explain: true}, false)
		c := w.dial("127.0.0.7")
		said := c.expect("554 5.7.1 Your address is banned")
		if !strings.Contains(said, "until 2026-11-26T12:00:00Z, ban K7QM-2V9D-4XTR") {
			t.Errorf("said %q", said)
		}
		c.ended()
		if r := w.recorder.wait(t, 0); r.Outcome != smtp.Dropped || r.Reply.Line() != said {
			t.Errorf("record: %s %q", r.Outcome, r.Reply.Line())
		}
	})
	t.Run("observed", func(t *testing.T) {
		w := gated(t, bans{}, true)
		c := w.dial("127.0.0.7")
		c.expect("220 ")
		c.ask("QUIT", "221")
		r := w.recorder.wait(t, 0)
		if len(r.Checks) != 1 || r.Checks[0].Action != reply.Log || r.Checks[0].Reason != reply.Banned || !strings.HasPrefix(r.Checks[0].Detail, "would drop") {
			t.Errorf("checks: %+v", r.Checks)
		}
	})
	t.Run("sick", func(t *testing.T) { // promise 3
		w := gated(t, bans{panics: true}, false)
		w.dial("127.0.0.7").expect("220 ")
	})
}

// A stranger is watched before the greeting; what he said too early is a slip,
// and his mail goes through.
func TestGateNotesEarlyTalk(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Policy.GreetWait = time.Hour })
	c := w.dial("127.0.0.1")
	c.send("EHLO client.example\r\n")
	c.expect("220 ")
	c.expect("250 ")
	c.ask("MAIL FROM:<a@client.example>", "250 ")
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	c.ask("DATA", "354 ")
	c.ask("\r\n.", "250 ")
	r := w.recorder.wait(t, 0)
	if r.Outcome != smtp.Accepted || !slices.Contains(r.Facts.Slips, "early_talk") {
		t.Errorf("outcome %s, slips %v", r.Outcome, r.Facts.Slips)
	}
	w.dial("127.0.0.99").expect("220 ") // who is known waits for no hour
}
