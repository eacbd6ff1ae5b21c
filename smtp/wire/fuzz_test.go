package wire

import (
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"mailweir/smtp/address"
)

// converse sends input in pieces to a Conn with a real go-smtp server behind
// it, closes, and returns all that was answered. It is run inside a synctest
// bubble, which fails when anything hangs.
func converse(t *testing.T, cfg Config, input string, piece int) (output string, b *backend, ev *events) {
	client, server := net.Pipe()
	b, ev = &backend{}, &events{}
	c := New(server, cfg, ev)
	serve(t, c, b)

	answers := make(chan string)
	go func() {
		all, _ := io.ReadAll(client)
		answers <- string(all)
	}()
	for input != "" {
		n, err := client.Write([]byte(input[:min(piece, len(input))]))
		input = input[n:]
		if err != nil {
			break // the server has closed
		}
	}
	synctest.Wait() // the server has taken all, and answered what it could
	client.Close()
	output = <-answers
	synctest.Wait()
	if c.Cause() == nil {
		t.Fatalf("the connection lives on after its client; it said %q", output)
	}
	return output, b, ev
}

var replyLine = regexp.MustCompile(`^[2345][0-9][0-9][ -][^\r\n]*$`)

// checkReplies wants whole reply lines, one for each that was reported, and no
// refusal that neither wire nor the backend made: go-smtp's own have no ref.
func checkReplies(t *testing.T, output string, ev *events) {
	t.Helper()
	replies := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(output, "\r\n"), "\r\n") {
		if output == "" {
			break
		}
		if !replyLine.MatchString(line) {
			t.Fatalf("reply %q in %q", line, output)
		}
		if line[0] >= '4' && !strings.HasSuffix(line, mark) && !strings.Contains(line, "backend:") {
			t.Fatalf("refusal without a hook: %q", line)
		}
		if line[3] == ' ' {
			replies++
		}
	}
	if n := len(ev.said()); n < replies {
		t.Fatalf("%d replies written, %d reported: %q", replies, n, output)
	}
}

// checkMails wants envelopes that parse and bodies without bare line ends.
func checkMails(t *testing.T, b *backend) {
	t.Helper()
	for _, m := range b.delivered() {
		for _, a := range append([]string{m.from}, m.to...) {
			if _, err := address.ParseUnquoted(a); err != nil && (a != "" || len(m.to) == 0) {
				t.Fatalf("address %q in %v: %v", a, m, err)
			}
		}
		if strings.ContainsAny(strings.ReplaceAll(m.body, "\r\n", ""), "\r\n") || m.body != "" && !strings.HasSuffix(m.body, "\r\n") {
			t.Fatalf("body %q", m.body)
		}
	}
}

const opening = "EHLO client.example\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<b@example.com>\r\n"

// Any bytes in any pieces: no panic, no hang, whole replies, nothing refused
// behind the session's back, and no message that is not canonical.
func FuzzConn(f *testing.F) {
	for _, s := range []string{
		opening + "DATA\r\nx\r\n.\r\nQUIT\r\n",
		opening + "BDAT 3\r\nx\r\nBDAT 0 LAST\r\nNOOP\r\nRSET\r\n",
		opening + "BDAT 3\r\nx\r\nEHLO again\r\nBDAT 2 LAST\r\nxx",
		opening + "BDAT 3\r\nx\r\nQUIT\r\n",
		opening + "BDAT 3\r\nx\nyBDAT 1 LAST\r\n\nDATA\r\n",
		opening + "RCPT TO:<unknown@example.com>\r\nRCPT TO:<gone@example.com>\r\n",
		"HELO x\r\nMAIL FROM:<early@y.z>\r\nRCPT TO:<\"a b\"@c.d>\r\nDATA\r\n\n.\n.\r\n.\r\n",
		"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "AUTH PLAIN x\r\nSTARTTLS\r\n", "\n\n\r\r\n",
		"EHLO x\r\nMAIL FROM:<j\xc3\xbcr@b\xc3\xbcc.example> SMTPUTF8 SIZE=9\r\nRCPT TO:<Postmaster>\r\nDATA\r\n.\r\n",
	} {
		f.Add(s, byte(255), false)
		f.Add(s, byte(1), true)
	}
	f.Fuzz(func(t *testing.T, input string, piece byte, strict bool) {
		synctest.Test(t, func(t *testing.T) {
			cfg := Config{Hostname: "mx.example.net", MaxMessageSize: 100, RefuseBareEnds: strict}
			output, b, ev := converse(t, cfg, input, int(piece)+1)
			checkReplies(t, output, ev)
			checkMails(t, b)
		})
	})
}

// Any body in any pieces reaches the session as the RFC reads it, and what
// follows it is read as commands: nothing is smuggled in or out.
func FuzzBody(f *testing.F) {
	for _, s := range []string{"x", "a\n.\nRSET\n", "a\r\n.\r\nMAIL FROM:<>\r\n", "..\r\n.\n", "\r.\r", "x\r\n.\r\r\n"} {
		f.Add(s, byte(255))
		f.Add(s, byte(2))
	}
	f.Fuzz(func(t *testing.T, body string, piece byte) {
		raw := body + "\r\n.\r\n"
		want, _, _ := received(raw)
		synctest.Test(t, func(t *testing.T) {
			output, b, ev := converse(t, Config{Hostname: "mx.example.net"}, opening+"DATA\r\n"+raw, int(piece)+1)
			checkReplies(t, output, ev)
			checkMails(t, b)
			mails := b.delivered()
			if len(mails) == 0 || mails[0].body != want {
				t.Fatalf("%q: got %v, want %q", raw, mails, want)
			}
		})
	})
}
