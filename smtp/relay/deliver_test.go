package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// TestDelivery: the message arrives as it is, on one connection after another
// message, with the extensions that the backend has (R-JF-28).
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{ehlo: []string{"PIPELINING", "8BITMIME", "SIZE 1000000", "SMTPUTF8"}, answer: only("u1", "u2")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		body := "Subject: x\r\n\r\n.\r\n..\r\n.a dot\r\n\x00\xff8-bit\r\n" + strings.Repeat("x", 100_000) + "\r\nend\r\n"
		for i := range 2 {
			rcpt := r.send(fmt.Sprint(".X-N: ", i, "\r\n", body), "u1", "u2")
			if rcpt.Reply.Code != 250 || rcpt.Backend != "one" || !strings.Contains(rcpt.Detail, "250 2.0.0 queued") {
				t.Fatalf("receipt %+v", rcpt)
			}
			m := s.got()[i]
			if m.data != fmt.Sprint(".X-N: ", i, "\r\n", body) || !slices.Equal(m.to, []string{"<u1@example.com>", "<u2@example.com>"}) {
				t.Errorf("message %d arrived as %d bytes for %q", i, len(m.data), m.to)
			}
		}
		if s.conns != 1 || s.count("MAIL FROM:<joe@sender.example> SIZE=") != 2 {
			t.Errorf("%d connections, heard %q", s.conns, s.log)
		}
	})
}

// TestQuotedLocalPartStaysQuoted: what was quoted cannot become a parameter.
func TestQuotedLocalPartStaysQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		r := newRig(t, "any", "", s)
		defer r.stop()
		r.send("x\r\n", `a b" NOTIFY=NEVER`)
		if s.count(`RCPT TO:<"a b\" NOTIFY=NEVER"@example.com>`) != 1 {
			t.Errorf("heard %q", s.log)
		}
	})
}

// TestRefusedRecipientStopsAll: nothing is sent, the yes is dropped, and the
// retry hears the truth at RCPT (smtp-filter §6.2).
func TestRefusedRecipientStopsAll(t *testing.T) {
	for _, ext := range [][]string{{"PIPELINING"}, nil} {
		synctest.Test(t, func(t *testing.T) {
			s := &fake{ehlo: ext, answer: only("u1", "u2", "u3")}
			r := newRig(t, "backend", "", s)
			defer r.stop()
			for _, u := range []string{"u1", "u2", "u3"} {
				want(t, r.state(u), "valid live")
			}
			s.set(only("u1", "u3"))
			got := r.send("hello\r\n", "u1", "u2", "u3")
			if got.Reason != reply.RecipientChanged || got.Reply.Code != 451 || got.Heard != nil {
				t.Errorf("receipt %+v", got)
			}
			if s.count("DATA") != 0 || len(s.got()) != 0 {
				t.Error("a message went out to the others")
			}
			want(t, r.state("u2"), "unknown live")
			want(t, r.state("u1"), "valid cached")
			want(t, r.send("hello\r\n", "u1", "u3").Reply.Line(), okReply.Line())
		})
	}
}

// TestVerdicts: the backend's answer at each stage is ours by its meaning, and
// nothing that is about us is a permanent one (R-JF-06, R-JF-10).
func TestVerdicts(t *testing.T) {
	tests := []struct {
		at, says, reply string
		reason          reply.Reason
		state           State
	}{
		{".", "554 5.7.1 Message rejected as spam", "554 5.7.1 The mail server behind us refused the message: Message rejected as spam", reply.MessageRefused, StateUp},
		{".", "552 5.3.4 Message too big", "552 5.3.4 The mail server behind us refused the message: Message too big", reply.MessageRefused, StateUp},
		{".", "550 5.6.0 mx.fake.example says no to content", "550 5.6.0 The mail server behind us refused the message: [backend] says no to content", reply.MessageRefused, StateUp},
		{".", "550 5.1.1 User unknown", "550 5.1.1 The mail server behind us refused the message: User unknown", reply.MessageRefused, StateUp},
		{".", "552 5.2.2 Mailbox full", "452 4.2.2 Mailbox is full, try again later", reply.RecipientForNow, StateUp},
		{".", "554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
		{".", "550 5.7.26 SPF hard fail for this sender", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
		{".", "554 Transaction failed", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
		{".", "451 4.3.0 Temporary failure", "451 4.4.1 The mail server behind us does not answer, try again later", reply.BackendAway, StateAway},
		{".", "451 4.7.500 Server busy, throttled", "451 4.4.5 The mail server behind us is busy, try again later", reply.BackendThrottled, StateThrottled},
		{".", "250 hang up", "451 4.4.1 The mail server behind us does not answer, try again later", reply.BackendAway, StateAway},
		{"DATA", "554 5.5.1 No", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
		{"DATA", "250 what?", "451 4.4.1 The mail server behind us does not answer, try again later", reply.BackendAway, StateAway},
		{"MAIL", "550 5.7.1 You are not welcome", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
		{"MAIL", "552 5.3.4 Message size exceeds fixed limit", "552 5.3.4 The mail server behind us refused the message: Message size exceeds fixed limit", reply.MessageRefused, StateUp},
		{"MAIL", "421 4.3.2 Shutting down", "451 4.4.1 The mail server behind us does not answer, try again later", reply.BackendAway, StateAway},
		{"MAIL", "452 4.3.1 Insufficient system storage", "451 4.4.1 The mail server behind us does not answer, try again later", reply.BackendAway, StateAway},
		{"RCPT", "554 5.7.1 <u1@example.com>: Relay access denied", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
		{"RCPT", "450 4.2.0 Greylisted", "451 4.1.1 A recipient is no longer taken, send again to hear which", reply.RecipientChanged, StateUp},
		{"RCPT", "421 4.7.0 Too many connections", "451 4.4.5 The mail server behind us is busy, try again later", reply.BackendThrottled, StateThrottled},
		{"EHLO", "550 5.7.1 No", "451 4.3.5 The mail server behind us is misconfigured, try again later", reply.MisconfiguredBackend, StateMisconfigured},
	}
	for _, c := range tests {
		t.Run(c.at+" "+c.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fake{ehlo: []string{"PIPELINING"}, answer: func(command string) string {
					if strings.HasPrefix(command, c.at) {
						return c.says
					}
					return ""
				}}
				r := newRig(t, "any", "", s)
				defer r.stop()
				got := r.send("hello\r\n", "u1")
				want(t, got.Reply.Line(), c.reply)
				if got.Reason != c.reason {
					t.Errorf("reason %s, want %s", got.Reason, c.reason)
				}
				if st := r.backend[0].Status(); st.State != c.state {
					t.Errorf("backend is %s (%s), want %s", st.State, st.Reason, c.state)
				}
			})
		})
	}
}

// TestNextBackend: the next one is tried only while nothing was sent.
func TestNextBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{answer: only("u1")}, &fake{answer: only("u1")}
		r := newRig(t, "backend", "", first, second)
		defer r.stop()
		first.setDown(errRefused)
		want(t, r.state("u1"), "valid live")
		got := r.send("one\r\n", "u1")
		if got.Reply.Code != 250 || got.Backend != "two" || !strings.HasPrefix(got.Detail, "one: ") {
			t.Errorf("receipt %+v", got)
		}
		first.setDown(nil)
		time.Sleep(2 * time.Second)
		if got = r.send("two\r\n", "u1"); got.Backend != "one" {
			t.Errorf("the first one is back, and the message went to %s: %s", got.Backend, got.Detail)
		}
		first.set(func(c string) string {
			if c == "." {
				return "250 hang up"
			}
			return ""
		})
		if got = r.send("three\r\n", "u1"); got.Reply.Code != 451 || len(second.got()) != 1 {
			t.Errorf("cut off after the final dot: %+v, the second one has %d", got, len(second.got()))
		}
		first.set(only())
		if got = r.send("four\r\n", "u1"); got.Reply.Code != 451 || len(second.got()) != 1 {
			t.Errorf("refused by the first: %+v, the second one has %d", got, len(second.got()))
		}
	})
}

// TestLMTPMixed: some recipients have the message; the retry is for the others
// only, and 250 is said when all have it.
func TestLMTPMixed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		full := true
		s := &fake{ehlo: []string{"PIPELINING"}, lmtp: func(to string) string {
			if full && to == "<u2@example.com>" {
				return "452 4.2.2 Mailbox full"
			}
			return "250 2.1.5 ok"
		}}
		r := newRig(t, "any", dir, s)
		defer r.stop()
		got := r.send("hello\r\n", "u1", "u2", "u3")
		if got.Reply.Code != 451 || len(s.got()) != 2 {
			t.Fatalf("receipt %+v, %d delivered", got, len(s.got()))
		}
		r.memory.Close() // and a restart between
		r.start("any", dir)
		full = false
		got = r.send("hello\r\n", "u1", "u2", "u3")
		if got.Reply.Code != 250 || len(s.got()) != 3 || !slices.Equal(s.got()[2].to, []string{"<u2@example.com>"}) {
			t.Errorf("receipt %+v, delivered %v", got, s.got())
		}
		got.Heard(true)
		if r.send("hello\r\n", "u1"); len(s.got()) != 4 {
			t.Error("a message that was sent again on purpose did not arrive")
		}
	})
}

// TestLMTPAgreed: a refusal that all share is passed on; refusals that differ
// have the client come again.
func TestLMTPAgreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{lmtp: func(string) string { return "554 5.7.1 Rejected as spam" }}
		r := newRig(t, "any", "", s)
		defer r.stop()
		want(t, r.send("a\r\n", "u1", "u2").Reply.Line(), "554 5.7.1 The mail server behind us refused the message: Rejected as spam")
		s.lmtp = func(to string) string {
			if to == "<u1@example.com>" {
				return "554 5.7.1 Rejected as spam"
			}
			return "452 4.2.2 Mailbox full"
		}
		if got := r.send("b\r\n", "u1", "u2"); got.Reply.Code != 451 {
			t.Errorf("refusals that differ: %+v", got)
		}
	})
}

// TestSlowVerdict: a client that is not patient enough hears 451 while the
// backend goes on; its retry joins, or is answered with the outcome, and the
// message arrives once (smtp-filter §6.5).
func TestSlowVerdict(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &fake{delay: func(c string) time.Duration {
			if c == "." {
				return 5 * time.Minute
			}
			return 0
		}}
		r := newRig(t, "any", dir, s)
		defer r.stop()
		begun := time.Now()
		got := r.sendWithin(time.Minute, "hello\r\n", "u1")
		if got.Reply.Code != 451 || time.Since(begun) != time.Minute || got.Heard != nil {
			t.Errorf("after %v: %+v", time.Since(begun), got)
		}
		if got = r.sendWithin(time.Minute, "hello\r\n", "u1"); got.Reply.Code != 451 { // while it is under way
			t.Errorf("the first retry: %+v", got)
		}
		if got = r.send("hello\r\n", "u1"); got.Reply.Code != 250 { // waits for it
			t.Errorf("the second retry: %+v", got)
		}
		r.memory.Close() // nobody has heard the 250 yet
		r.start("any", dir)
		time.Sleep(23 * time.Hour)
		if got = r.send("hello\r\n", "u1"); got.Reply.Code != 250 || len(s.got()) != 1 {
			t.Errorf("the retry after a restart: %+v, delivered %d times", got, len(s.got()))
		}
		got.Heard(false)
		if got = r.send("hello\r\n", "u1"); len(s.got()) != 1 {
			t.Errorf("the client left again: %+v, delivered %d times", got, len(s.got()))
		}
		time.Sleep(2 * time.Hour)
		if got = r.send("hello\r\n", "u1"); got.Reply.Code != 250 || len(s.got()) != 2 {
			t.Errorf("a day later: %+v, delivered %d times", got, len(s.got()))
		}
	})
}

// TestUnheardRefusal: the retry of a client that left hears the refusal.
func TestUnheardRefusal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: func(c string) string {
			if c == "." {
				return "550 5.7.1 Message is spam"
			}
			return ""
		}}
		r := newRig(t, "any", dir, s)
		defer r.stop()
		first := r.send("hello\r\n", "u1")
		r.memory.Close()
		r.start("any", dir)
		again := r.send("hello\r\n", "u1")
		if again.Reply != first.Reply || again.Reason != reply.MessageRefused || s.count("DATA") != 1 {
			t.Errorf("first %+v, then %+v, DATA %d times", first, again, s.count("DATA"))
		}
		again.Heard(true)
		if r.send("hello\r\n", "u1"); s.count("DATA") != 2 {
			t.Error("what the client heard is still kept")
		}
	})
}

// TestClientGoneBeforeTheDot: the body cannot be read any more after Deliver
// returned, so the backend's transaction is given up.
func TestClientGoneBeforeTheDot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{delay: func(c string) time.Duration {
			if c == "DATA" {
				return time.Minute
			}
			return 0
		}}
		r := newRig(t, "any", "", s)
		defer r.stop()
		got := r.sendWithin(30*time.Second, "hello\r\n", "u1")
		time.Sleep(5 * time.Minute)
		if got.Reply.Code != 451 || len(s.got()) != 0 {
			t.Errorf("receipt %+v, delivered %d", got, len(s.got()))
		}
	})
}

// slowBody is a message on a slow disk, which is closed after Deliver returned.
type slowBody struct {
	io.ReadSeeker
	reading atomic.Bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	time.Sleep(time.Minute)
	return b.ReadSeeker.Read(p)
}

// TestBodyIsNotReadAfterwards: the session takes the message back when Deliver
// returns.
func TestBodyIsNotReadAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		r := newRig(t, "any", "", s)
		defer r.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		body := &slowBody{ReadSeeker: strings.NewReader("hello\r\n")}
		got := r.route.Deliverer.Deliver(ctx, smtp.Envelope{To: []address.Mailbox{box("u1")}}, body)
		if got.Reply.Code != 451 || body.reading.Load() {
			t.Errorf("receipt %+v, still reading: %v", got, body.reading.Load())
		}
	})
}

// TestListedButRefused: what a list or "any" lets in and the backend refuses is
// asked live from then on, so that the sender hears it at RCPT.
func TestListedButRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1")}
		r := newRig(t, "any", "", s)
		defer r.stop()
		want(t, r.state("gone"), "any live")
		if got := r.send("x\r\n", "gone"); got.Reply.Code != 451 {
			t.Errorf("receipt %+v", got)
		}
		want(t, r.state("gone"), "unknown live")
		want(t, r.state("u1"), "any live")
		s.set(nil)
		time.Sleep(time.Hour)
		r.send("x\r\n", "gone")
		want(t, r.state("gone"), "any live")
	})
}

// TestSizeAndUTF8: what the backend has said it cannot take is not tried.
func TestSizeAndUTF8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{ehlo: []string{"SIZE 1000"}}
		r := newRig(t, "any", "", s)
		defer r.stop()
		got := r.send(strings.Repeat("x", 2000)+"\r\n", "u1")
		if got.Reply.Code != 552 || s.count("MAIL") != 0 {
			t.Errorf("too large: %+v", got)
		}
		route, _ := r.router.Route("example.com")
		if route.SMTPUTF8 || route.MaxMessageSize != 1000 {
			t.Errorf("route %+v", route)
		}
		if a := r.verify("jörg"); a.State != "any" {
			t.Errorf("answer %+v", a)
		}
		b := r.backend[0].recipient(t.Context(), address.Mailbox{Local: "jörg", Domain: "example.com"}, true)
		if b.meaning != MessageRefused || b.reply.Code != 553 {
			t.Errorf("finding %+v", b)
		}
	})
}

// TestLoopByName: a server that bears our name is ourselves.
func TestLoopByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{greet: "220 Edge.Example ESMTP"}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		a := r.verify("u1")
		want(t, a.Reply.Line(), "451 4.3.5 The mail server behind us is misconfigured, try again later")
		st := r.router.Status(r.memory)
		if len(st.Alarms) != 1 || st.Alarms[0].Name != "misconfigured_backend" || !strings.Contains(st.Alarms[0].Text, "leads to ourselves") {
			t.Errorf("alarms %+v", st.Alarms)
		}
	})
}

// TestMisconfiguredIsMended: the alarm ends when what was refused is taken, not
// with the next greeting.
func TestMisconfiguredIsMended(t *testing.T) {
	for command, says := range map[string]string{"RCPT": "554 5.7.1 Relay access denied", "MAIL": "550 5.7.1 Unable to relay"} {
		synctest.Test(t, func(t *testing.T) {
			s := &fake{answer: func(c string) string {
				if strings.HasPrefix(c, command) {
					return says
				}
				return ""
			}}
			r := newRig(t, "backend", "", s)
			defer r.stop()
			r.verify("u1")
			r.backend[0].check(t.Context())
			if a := r.router.Status(r.memory).Alarms; len(a) != 1 || !strings.Contains(a[0].Text, "relay_domains") {
				t.Errorf("%s: alarms %+v", command, a)
			}
			s.set(nil)
			r.verify("u1")
			if st := r.backend[0].Status(); st.State != StateUp {
				t.Errorf("%s: still %+v", command, st)
			}
		})
	}
}

// TestAwayAlarm: a backend that nobody speaks to is found to be away, and that
// is an alarm a minute later.
func TestAwayAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{down: errors.New("connect: connection refused")}
		r := newRig(t, "backend", "", s)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.router.Run(ctx); close(done) }()
		time.Sleep(2 * time.Minute)
		if a := r.router.Status(r.memory).Alarms; len(a) != 1 || a[0].Name != "backend_away" {
			t.Errorf("alarms %+v", a)
		}
		s.setDown(nil)
		time.Sleep(time.Minute)
		if st := r.backend[0].Status(); st.State != StateUp {
			t.Errorf("still %+v", st)
		}
		stop()
		<-done
		r.stop()
	})
}
