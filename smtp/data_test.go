package smtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// corpus is what a message may be made of; each must come out as it went in.
func corpus() map[string]string {
	all := make([]byte, 0, 256)
	for c := range 256 {
		if c != '\r' && c != '\n' {
			all = append(all, byte(c))
		}
	}
	return map[string]string{
		"empty":         "",
		"one line end":  "\r\n",
		"plain":         "Subject: x\r\n\r\nhello\r\n",
		"dots":          ".\r\n..\r\n...\r\n.a\r\n\r\n.\r\n..\r\n",
		"NUL":           "Subject: x\r\n\r\na\x00b\x00\r\n\x00\r\n",
		"every octet":   "Subject: x\r\n\r\n" + string(all) + "\r\n",
		"8-bit header":  "Subject: gr\xfc\xdfe\r\nX: \xff\xfe\r\n\r\n\xe4\r\n",
		"long line":     "Subject: x\r\n\r\n" + strings.Repeat("x", 60_000) + "\r\n",
		"long field":    "X: " + strings.Repeat("y", 60_000) + "\r\n\r\nz\r\n",
		"folded":        "Subject: a\r\n b\r\n\tc\r\nX-Empty:\r\n\r\nd\r\n",
		"no header":     "\r\nbody only\r\n",
		"no body":       "Subject: x\r\n",
		"no fields":     "this is no header\r\nneither is this\r\n\r\nSubject: body\r\n",
		"other's A-R":   "Authentication-Results: other.example; spf=fail\r\nSubject: x\r\n\r\nAuthentication-Results: mx.example.net; body\r\n",
		"blank lines":   "Subject: x\r\n\r\n\r\n\r\n\r\n",
		"white space":   "Subject: x  \t \r\n\r\n  \t\r\n \r\n",
		"over a buffer": "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcdef\r\n", 3000),
	}
}

// submit sends one message, by DATA or in chunks of size octets.
func submit(c *dialogue, message string, chunk int) {
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	if chunk == 0 {
		stuffed := strings.ReplaceAll("\r\n"+message, "\r\n.", "\r\n..")[2:]
		c.ask("DATA", "354")
		c.send(stuffed + ".\r\n")
	} else {
		for ; len(message) > chunk; message = message[chunk:] {
			c.send(fmt.Sprintf("BDAT %d\r\n%s", chunk, message[:chunk]))
			c.expect("250 ")
		}
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(message), message))
	}
}

// Apart from our Received the backend gets what the client sent, SHA-256 for
// SHA-256: signatures survive.
func TestMessagesAreByteIdentical(t *testing.T) {
	w := newWorld(t, nil)
	for name, message := range corpus() {
		for _, chunk := range []int{0, 7, 4096} {
			t.Run(fmt.Sprintf("%s/%d", name, chunk), func(t *testing.T) {
				if chunk == 7 && len(message) > 1000 {
					t.Skip("one octet at a time is not the point")
				}
				c := w.dial("127.0.0.1")
				defer c.nc.Close()
				submit(c, message, chunk)
				c.expect("250 2.0.0")
				mails := w.office.taken()
				_, rest := received(t, mails[len(mails)-1].body)
				if sum(rest) != sum([]byte(message)) {
					t.Errorf("sent %d octets %.60q, the backend got %d %.60q", len(message), message, len(rest), rest)
				}
			})
		}
	}
}

// The last line of a message in chunks may have no end; DATA cannot carry it so.
func TestMissingLastLineEndIsMade(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	submit(c, "Subject: x\r\n\r\nno end", 4096)
	c.expect("250 2.0.0")
	_, rest := received(t, w.office.taken()[0].body)
	if string(rest) != "Subject: x\r\n\r\nno end\r\n" {
		t.Errorf("got %q", rest)
	}
}

func TestReceived(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Policy.TLS = selfSigned(t) })
	send := func(helo string, tls bool, rcpts ...string) string {
		c := w.dial("127.0.0.1")
		defer c.nc.Close()
		c.expect("220 ")
		c.ask(helo, "250 ")
		if tls {
			c.startTLS()
			c.ask(helo, "250 ")
		}
		c.ask("MAIL FROM:<a@client.example>", "250 ")
		for _, r := range rcpts {
			c.ask("RCPT TO:<"+r+"@office.example>", "250 ")
		}
		c.ask("DATA", "354 ")
		c.ask("\r\n.", "250 ")
		mails := w.office.taken()
		field, _ := received(t, mails[len(mails)-1].body)
		return string(field)
	}
	const id = "[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}"
	const date = `\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`
	for _, c := range []struct{ got, want string }{
		{send("HELO client.example", false, "alice"), "Received: from client.example \\(\\[127.0.0.1\\]\\)\r\n\tby mx.example.net with SMTP\r\n\tid " + id + "\r\n\tfor <alice@office.example>;\r\n\t" + date + "\r\n"},
		{send("EHLO client.example", false, "alice", "bob"), "Received: from client.example \\(\\[127.0.0.1\\]\\)\r\n\tby mx.example.net with ESMTP\r\n\tid " + id + ";\r\n\t" + date + "\r\n"},
		{send("EHLO client.example", true, "alice", "bob"), "Received: from client.example \\(\\[127.0.0.1\\]\\)\r\n\tby mx.example.net with ESMTPS \\(TLS1.3\\)\r\n\tid " + id + ";\r\n\t" + date + "\r\n"},
		{send("EHLO (evil);x", false, "alice", "bob"), "Received: from unknown \\(\\[127.0.0.1\\]\\)\r\n\tby mx.example.net with ESMTP\r\n\tid " + id + ";\r\n\t" + date + "\r\n"},
	} {
		if !regexp.MustCompile("^" + c.want + "$").MatchString(c.got) {
			t.Errorf("got  %q\nwant %q", c.got, c.want)
		}
	}
}

// RFC 8601 section 5: our own name in Authentication-Results is ours alone.
func TestForgedAuthenticationResultsAreRemoved(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	submit(c, "Subject: x\r\n"+
		"Authentication-Results: mx.example.net; spf=pass\r\n"+
		"AUTHENTICATION-RESULTS : MX.example.net\r\n ;dkim=pass\r\n\theader.d=bank.example\r\n"+
		"Authentication-Results:\r\n (a (nested) \\) comment) mx.example.net/1; dmarc=pass\r\n"+
		"Authentication-Results: \"mx.example.net\" 1; dmarc=pass\r\n"+
		"Authentication-Results: other.example; spf=pass\r\n"+
		"X-Authentication-Results: mx.example.net; spf=pass\r\n"+
		"\r\nbody\r\n", 0)
	c.expect("250 2.0.0")
	_, rest := received(t, w.office.taken()[0].body)
	want := "Subject: x\r\nAuthentication-Results: other.example; spf=pass\r\nX-Authentication-Results: mx.example.net; spf=pass\r\n\r\nbody\r\n"
	if string(rest) != want {
		t.Errorf("got  %q\nwant %q", rest, want)
	}
}

func TestLoopIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	for hops, want := range map[int]string{49: "250 2.0.0", 50: "554 5.4.6 Mail loop"} {
		c := w.dial("127.0.0.1")
		submit(c, strings.Repeat("Received: from a\r\n\tby b; date\r\n", hops)+"Message-ID: <x@y>\r\n\r\nReceived: in the body\r\n", 0)
		c.expect(want)
		c.nc.Close()
	}
	for i := range 2 {
		r := w.recorder.wait(t, i)
		if r.Facts.MessageID != "<x@y>" || (r.Facts.Hops == 50) != (r.Reason == reply.Loop) {
			t.Errorf("record: %d hops, %s, message id %s", r.Facts.Hops, r.Reason, r.Facts.MessageID)
		}
	}
}

// A message that cannot be held is put off (promise 3), whatever its size, and
// nothing stays in the directory.
func TestMessageThatCannotBeHeld(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.TempDir += "/missing" })
	c := w.dial("127.0.0.1")
	submit(c, "Subject: x\r\n\r\n"+strings.Repeat("0123456789\r\n", 20_000), 0)
	c.expect("451 4.3.0")
	if r := w.recorder.wait(t, 0); r.Outcome != smtp.Deferred || r.Reason != reply.Internal {
		t.Errorf("record: %s %s", r.Outcome, r.Reason)
	}
	w = newWorld(t, nil)
	c = w.dial("127.0.0.1")
	submit(c, "Subject: x\r\n\r\n"+strings.Repeat("0123456789\r\n", 20_000), 0)
	c.expect("250 2.0.0")
	if left, err := os.ReadDir(w.opts.TempDir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// delivererFunc is a Deliverer with a mind of its own.
type delivererFunc func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt

func (f delivererFunc) Deliver(ctx context.Context, e smtp.Envelope, b io.ReadSeeker) smtp.Receipt {
	return f(ctx, e, b)
}

func delivering(t testing.TB, f delivererFunc) *world {
	return newWorld(t, func(w *world) {
		w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: backend{w.office}, Deliverer: f}}
	})
}

// R-BW-E10: a fault of ours is 451 4.3.0, never a 5xx, and the session goes on.
func TestFaultsOfOursAreTemporary(t *testing.T) {
	for name, f := range map[string]delivererFunc{
		"panic":         func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt { panic("nil map") },
		"empty receipt": func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt { return smtp.Receipt{} },
		"odd receipt": func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt {
			return smtp.Receipt{Reply: reply.Reply{Code: 354, Text: "go on"}}
		},
	} {
		for _, chunk := range []int{0, 4096} {
			t.Run(fmt.Sprintf("%s/%d", name, chunk), func(t *testing.T) {
				w := delivering(t, f)
				c := w.dial("127.0.0.1")
				submit(c, "Subject: x\r\n\r\n", chunk)
				said := c.expect("451 4.3.0")
				r := w.recorder.wait(t, 0)
				if r.Outcome != smtp.Deferred || r.Reason != reply.Internal || r.Reply.Line() != said {
					t.Errorf("record: %s %s %q", r.Outcome, r.Reason, r.Reply.Line())
				}
				c.ask("NOOP", "250 ")
			})
		}
	}
	t.Run("oracle", func(t *testing.T) {
		w := newWorld(t, func(w *world) {
			w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: nilOracle{}}}
		})
		c := w.dial("127.0.0.1")
		c.open("a@client.example")
		c.ask("RCPT TO:<alice@office.example>", "451 4.3.0")
		c.ask("RSET", "250 ")
		if r := w.recorder.wait(t, 0); r.Outcome != smtp.Deferred || r.Reason != reply.Internal {
			t.Errorf("record: %s %s", r.Outcome, r.Reason)
		}
	})
}

type nilOracle struct{ smtp.Oracle }

// The body a Deliverer gets can be read twice, its Size is right, and two
// submissions of one message have one Digest.
func TestEnvelope(t *testing.T) {
	var mu sync.Mutex
	var envs []smtp.Envelope
	w := delivering(t, func(_ context.Context, e smtp.Envelope, b io.ReadSeeker) smtp.Receipt {
		first, err1 := io.ReadAll(b)
		_, err2 := b.Seek(0, io.SeekStart)
		again, err3 := io.ReadAll(b)
		if err := errors.Join(err1, err2, err3); err != nil || !bytes.Equal(first, again) || int64(len(first)) != e.Size {
			t.Errorf("read %d octets, then %d, Size %d: %v", len(first), len(again), e.Size, err)
		}
		mu.Lock()
		defer mu.Unlock()
		envs = append(envs, e)
		return smtp.Receipt{Reply: reply.Reply{Code: 250}}
	})
	big := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 20_000)
	for _, message := range []string{"Subject: x\r\n\r\n", "Subject: x\r\n\r\n", big, big} {
		c := w.dial("127.0.0.1")
		submit(c, message, 0)
		c.expect("250 ")
		c.nc.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if envs[0].Digest != envs[1].Digest || envs[2].Digest != envs[3].Digest || envs[0].Digest == envs[2].Digest {
		t.Error("digests do not tell the messages apart")
	}
	if envs[0].Ref == envs[1].Ref || envs[0].From.String() != "<a@client.example>" || envs[0].Peer.String() != "127.0.0.1" {
		t.Errorf("envelope %+v", envs[0])
	}
}

// Heard tells a client that went on from one that left without a word, which is
// how a Deliverer knows whose retry to expect.
func TestHeard(t *testing.T) {
	told := make(chan bool, 1)
	w := delivering(t, func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt {
		return smtp.Receipt{Reply: reply.Reply{Code: 250}, Heard: func(heard bool) { told <- heard }}
	})
	for last, want := range map[string]bool{"QUIT\r\n": true, "RSET\r\n": true, "": false} {
		c := w.dial("127.0.0.1")
		submit(c, "\r\n", 0)
		c.expect("250 ")
		c.send(last)
		if last != "" {
			c.line()
		}
		c.nc.Close()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("after %q: heard %v", last, got)
			}
		case <-time.After(patienceOfTests):
			t.Fatalf("after %q: never told", last)
		}
	}
}

// A QUIT that came along with the final dot says nothing: its client may have
// left before the answer, and sends the message again (smtp-filter section 6.5).
func TestPipelinedQuitHeardNothing(t *testing.T) {
	sent, told := make(chan struct{}), make(chan bool, 1)
	w := delivering(t, func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt {
		<-sent
		return smtp.Receipt{Reply: reply.Reply{Code: 250}, Heard: func(heard bool) { told <- heard }}
	})
	for _, ahead := range []string{"QUIT\r\n", "RSET\r\nNOOP\r\n", "MAIL FROM:<b@client.example>\r\nQUIT\r\n"} {
		c := w.dial("127.0.0.1")
		c.open("a@client.example")
		c.ask("RCPT TO:<alice@office.example>", "250 ")
		c.ask("DATA", "354 ")
		c.send("\r\n.\r\n" + ahead)
		sent <- struct{}{}
		c.nc.(*net.TCPConn).CloseWrite()
		for err := error(nil); err == nil; {
			_, err = c.line()
		}
		select {
		case heard := <-told:
			if heard {
				t.Errorf("%q ahead of the answer was taken for a sign that it was heard", ahead)
			}
		case <-time.After(patienceOfTests):
			t.Fatalf("%q: never told", ahead)
		}
	}
}

// A client that leaves while the backend thinks does not stop the delivery, and
// the Deliverer learns that nobody heard.
func TestClientThatLeavesDoesNotStopTheDelivery(t *testing.T) {
	left, ended, told := make(chan struct{}), make(chan error, 1), make(chan bool, 1)
	w := delivering(t, func(ctx context.Context, _ smtp.Envelope, _ io.ReadSeeker) smtp.Receipt {
		<-left
		ended <- ctx.Err()
		return smtp.Receipt{Reply: reply.Reply{Code: 250}, Heard: func(heard bool) { told <- heard }}
	})
	c := w.dial("127.0.0.1")
	submit(c, "\r\n", 0)
	c.nc.(*net.TCPConn).SetLinger(0)
	c.nc.Close()
	close(left)
	if err := <-ended; err != nil {
		t.Errorf("the delivery's context ended with the client: %v", err)
	}
	if <-told {
		t.Error("a client that had left heard the reply")
	}
	if r := w.recorder.wait(t, 0); r.Outcome != smtp.Accepted {
		t.Errorf("outcome %s: what became of the message counts", r.Outcome)
	}
}

// What is over the limit is not kept; were it handed over, it would be cut short.
func TestCutMessageIsNeverDelivered(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Policy.Chain = smtp.Chain{} })
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@small.example>", "250 ")
	c.ask("DATA", "354 ")
	c.ask(strings.Repeat("0123456789\r\n", 30)+".", "552 5.3.4")
	if n := len(w.office.taken()); n != 0 {
		t.Errorf("the office took %d messages", n)
	}
}

// A ban that ends the session does not end the delivery either: its outcome is
// one, whoever hears it.
func TestResetDoesNotStopTheDelivery(t *testing.T) {
	began, reset, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	w := delivering(t, func(ctx context.Context, _ smtp.Envelope, _ io.ReadSeeker) smtp.Receipt {
		close(began)
		<-reset
		ended <- ctx.Err()
		return smtp.Receipt{Reply: reply.Reply{Code: 250}}
	})
	c := w.dial("127.0.0.1")
	submit(c, "\r\n", 0)
	<-began
	w.server.ResetSource(loopback)
	close(reset)
	if err := <-ended; err != nil {
		t.Errorf("the delivery's context ended with the session: %v", err)
	}
	if r := w.recorder.wait(t, 0); r.Outcome != smtp.Accepted {
		t.Errorf("outcome %s", r.Outcome)
	}
}

// Stats count what records say.
func TestStats(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<nobody@office.example>", "550")
	c.ask("RCPT TO:<a@elsewhere.example>", "554")
	c.ask("QUIT", "221")
	w.recorder.wait(t, 0)
	st := w.server.Stats()
	if st.Connections != 1 || st.Outcomes[smtp.Rejected] != 1 || st.Reasons[reply.UnknownUser] != 1 || st.Reasons[reply.Relaying] != 1 {
		t.Errorf("stats: %+v", st)
	}
	if len(st.Reasons) != 2 {
		t.Errorf("reasons: %v", st.Reasons)
	}
}
