package smtp_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// A client that breaks off in any phase, by a reset or by closing its half,
// leaves one record, and nothing else: no session, no goroutine, no descriptor,
// no conviction. What was sent to its end is delivered all the same.
func TestClientBreaksOff(t *testing.T) {
	const message = "Subject: x\r\n\r\nhello\r\n"
	open := func(c *dialogue) { c.open("a@client.example") }
	rcpt := func(c *dialogue) { open(c); c.ask("RCPT TO:<alice@office.example>", "250 ") }
	data := func(c *dialogue) { rcpt(c); c.ask("DATA", "354 ") }
	starttls := func(c *dialogue) {
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("STARTTLS", "220 ")
	}
	for _, phase := range []struct {
		name    string
		reach   func(*dialogue)
		outcome smtp.Outcome
		reason  reply.Reason
	}{
		{"before the greeting", func(*dialogue) {}, smtp.Aborted, ""},
		{"greeted", func(c *dialogue) { c.expect("220 ") }, smtp.Aborted, ""},
		{"in EHLO", func(c *dialogue) { c.expect("220 "); c.send("EHLO clie") }, smtp.Aborted, ""},
		{"after EHLO", func(c *dialogue) { c.expect("220 "); c.ask("EHLO client.example", "250 ") }, smtp.Aborted, ""},
		{"after MAIL", open, smtp.Aborted, ""},
		{"after RCPT", rcpt, smtp.Aborted, ""},
		{"after DATA", data, smtp.Aborted, ""},
		{"in the message", func(c *dialogue) { data(c); c.send(message[:15]) }, smtp.Aborted, ""},
		{"in a chunk", func(c *dialogue) { rcpt(c); c.send("BDAT 100\r\n" + message) }, smtp.Aborted, ""},
		{"between chunks", func(c *dialogue) { rcpt(c); c.send("BDAT 5\r\nSubje"); c.expect("250 ") }, smtp.Aborted, ""},
		{"behind the final dot", func(c *dialogue) { data(c); c.send(message + ".\r\n") }, smtp.Accepted, ""},
		{"behind the last chunk", func(c *dialogue) { rcpt(c); c.send("BDAT 9 LAST\r\nhello yes") }, smtp.Accepted, ""},
		{"before the handshake", starttls, smtp.Aborted, reply.TLSFailed},
		{"in the handshake", func(c *dialogue) { starttls(c); c.send("\x16\x03\x01\x02\x00\x01") }, smtp.Aborted, reply.TLSFailed},
		{"in TLS", func(c *dialogue) {
			starttls(c)
			c.begin(tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true}))
			c.ask("EHLO client.example", "250 ")
		}, smtp.Aborted, ""},
	} {
		for how, breakOff := range map[string]func(*net.TCPConn){
			"reset":      func(nc *net.TCPConn) { nc.SetLinger(0); nc.Close() },
			"half-close": func(nc *net.TCPConn) { nc.CloseWrite() },
		} {
			t.Run(phase.name+"/"+how, func(t *testing.T) {
				began, finish := make(chan struct{}, 1), make(chan struct{})
				w := newWorld(t, func(w *world) {
					w.opts.Policy.TLS = selfSigned(t)
					slow := delivererFunc(func(ctx context.Context, e smtp.Envelope, body io.ReadSeeker) smtp.Receipt {
						began <- struct{}{}
						<-finish
						return backend{w.office}.Deliver(ctx, e, body)
					})
					w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: backend{w.office}, Deliverer: slow}}
				})
				files := descriptors(t)
				c := w.dial("127.0.0.1")
				raw := c.nc.(*net.TCPConn)
				phase.reach(c)
				if phase.outcome == smtp.Accepted {
					<-began
				}
				breakOff(raw)
				close(finish)
				r := w.recorder.wait(t, 0)
				if r.Outcome != phase.outcome || r.Reason != phase.reason {
					t.Errorf("record: %q %q, want %q %q", r.Outcome, r.Reason, phase.outcome, phase.reason)
				}
				if got, want := len(w.office.taken()), map[bool]int{true: 1}[phase.outcome == smtp.Accepted]; got != want {
					t.Errorf("%d messages at the backend, want %d", got, want)
				}
				raw.Close()
				eventually(t, "no session is left", func() bool { return w.server.Stats().Open == 0 })
				eventually(t, "no goroutine is left", func() bool { return len(working()) == 0 })
				eventually(t, "no descriptor is left", func() bool { return descriptors(t) <= files })
				if n := len(w.recorder.all()); n != 1 {
					t.Errorf("%d records, want 1", n)
				}
				if len(w.recorder.convictions())+len(w.offender.filed()) > 0 {
					t.Errorf("convicted: %v, filed: %v", w.recorder.convictions(), w.offender.filed())
				}
			})
		}
	}
}

// eventually waits for what has to come about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patienceOfTests); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// working is what the goroutines of connections are at, those to backends too.
func working() (all []string) {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		for _, at := range []string{"smtp.(*Server).serveConn", "go-smtp.(*Server).handleConn", "crypto/tls"} {
			if strings.Contains(stack, at) {
				all = append(all, stack)
			}
		}
	}
	return all
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
