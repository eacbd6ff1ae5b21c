package relay

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp/address"
)

// bell keeps what it is told.
type bell struct{ told []string }

func (b *bell) Alarm(name, detail string) { b.told = append(b.told, "raised "+name+": "+detail) }
func (b *bell) Clear(name, detail string) { b.told = append(b.told, "cleared "+name+": "+detail) }

// TestReport: an alarm is told within a minute, once, also across a reload, and
// its end is told.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") {
				return "554 5.7.1 Relay access denied"
			}
			return ""
		}}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		var b bell
		report := func(d time.Duration) {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); r.router.Report(ctx, r.memory, &b) }()
			time.Sleep(d)
			stop()
			<-done
		}
		r.verify("u1")
		report(time.Minute)
		report(time.Minute)
		if len(b.told) != 1 || !strings.HasPrefix(b.told[0], "raised misconfigured_backend one for example.com: one for example.com: it refuses us, so its mail waits at the senders: 554 5.7.1 Relay access denied (have the backend accept this domain") {
			t.Errorf("told %q", b.told)
		}
		s.set(only("u1"))
		r.verify("u1")
		report(time.Minute)
		if len(b.told) != 2 || b.told[1] != "cleared misconfigured_backend one for example.com: one for example.com: it takes our mail again" {
			t.Errorf("told %q", b.told)
		}
	})
}

// TestRefusalOfOneDomain: of a backend's many domains one may be unknown there;
// the others' mail does not hide it.
func TestRefusalOfOneDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") && strings.Contains(c, "@new.example>") {
				return "554 5.7.1 Relay access denied"
			}
			return ""
		}}
		r := newRig(t, "any", "", s)
		defer r.stop()
		b := r.backend[0]
		b.recipient(t.Context(), address.Mailbox{Local: "u1", Domain: "new.example"}, true)
		b.recipient(t.Context(), box("u1"), true)
		r.send("hello\r\n", "u1")
		st := b.Status()
		if st.State != StateMisconfigured || len(st.Refusals) != 1 || st.Refusals[0].Domain != "new.example" {
			t.Errorf("status %+v", st)
		}
		s.set(nil)
		b.recipient(t.Context(), address.Mailbox{Local: "u1", Domain: "new.example"}, true)
		if st := b.Status(); st.State != StateUp || st.Reason != "" {
			t.Errorf("mended, and still %+v", st)
		}
	})
}

// TestSpamSaysNothingOfRecipients: they stay known when a message was refused.
func TestSpamSaysNothingOfRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("u1"), "valid live")
		s.set(func(c string) string {
			if c == "." {
				return "554 5.7.1 Message is spam"
			}
			return ""
		})
		if got := r.send("x\r\n", "u1"); !got.Reply.Permanent() {
			t.Errorf("receipt %+v", got)
		}
		want(t, r.state("u1"), "valid cached")
	})
}

// TestStatusIsBounded: what a backend says is cut and made printable before it
// reaches a terminal.
func TestStatusIsBounded(t *testing.T) {
	var h health
	h.saw(answer{time.Unix(1, 0), time.Second, AtRcpt, "example.com", Misconfigured, "554 \x1b[31m" + strings.Repeat("x", 5000)})
	st := h.status(time.Unix(2, 0))
	if len(st.Reason) > 600 || slices.Contains([]byte(st.Reason), 0x1b) || len(st.Answer) > 300 {
		t.Errorf("%q", st.Reason)
	}
}
