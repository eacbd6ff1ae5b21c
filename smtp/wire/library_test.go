package wire

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// go-smtp is there for a transaction, and for no other command: each connection
// without one would else hold its buffers and a second goroutine.
func TestLibraryIsThereForATransaction(t *testing.T) {
	hello := "EHLO c.example|"
	for _, c := range []struct {
		say   string // | ends a packet, whose last reply is awaited; \n is CRLF
		codes string // of all replies
		calls int
	}{
		{"QUIT", "220 221", 0},
		{hello + "NOOP|RSET|VRFY x|HELO c|QUIT", "220 250 250 250 252 250 221", 0},
		{"RSET|MAIL FROM:<a@b.example>|RCPT TO:<b@example.net>|DATA|BDAT 5\nabc|QUIT", "220 250 503 503 503 503 221", 0},
		{hello + "MAIL FROM:<nobody@client.example>|QUIT", "220 250 550 221", 1},
		{hello + "MAIL FROM:<nobody@client.example>|MAIL FROM:<a@client.example>|RSET|RSET|NOOP|QUIT", "220 250 550 250 250 250 250 221", 2},
		{hello + "MAIL FROM:<a@client.example>|QUIT", "220 250 250 221", 1},
		{hello + "MAIL FROM:<a@client.example>|" + hello + "RCPT TO:<b@example.net>|QUIT", "220 250 250 250 503 221", 1},
		{hello + "MAIL FROM:<a@client.example>|RCPT TO:<b@example.net>|DATA|x\n.|NOOP|QUIT", "220 250 250 250 354 250 250 221", 1},
		{hello + "MAIL FROM:<a@client.example>|RCPT TO:<b@example.net>|BDAT 5\nabc|RSET|NOOP|QUIT", "220 250 250 250 250 250 250 221", 1},
		{hello + "MAIL FROM:<a@client.example>|RCPT TO:<b@example.net>|BDAT 5\nabc|QUIT", "220 250 250 250 250 221", 1},
		{hello + strings.Repeat("MAIL FROM:<a@client.example>|RCPT TO:<b@example.net>|DATA|x\n.|", 3) + "QUIT", "220 250" + strings.Repeat(" 250 250 354 250", 3) + " 221", 3},
		{hello + "MAIL FROM:<a@client.example>\nRCPT TO:<b@example.net>\nBDAT 5 LAST\nabc\nMAIL FROM:<a@client.example>\nRSET\nQUIT", "220 250 250 250 250 250 250 221", 1},
	} {
		client, conn := connect(t, Config{}, &events{})
		b := &backend{}
		wait := serve(t, conn, b)
		in := bufio.NewReader(client)
		var codes []string
		hear := func() {
			for line := "   -"; line[3] == '-'; {
				var err error
				if line, err = in.ReadString('\n'); err != nil {
					t.Fatalf("%q: %v after %q", c.say, err, codes)
				}
				if line[3] == ' ' {
					codes = append(codes, line[:3])
				}
			}
		}
		hear()
		for packet := range strings.SplitSeq(c.say, "|") {
			heard := len(codes)
			fmt.Fprintf(client, "%s\r\n", strings.ReplaceAll(packet, "\n", "\r\n"))
			for want := min(len(strings.Fields(c.codes)), heard+1); len(codes) < want; {
				hear()
			}
		}
		rest, _ := io.ReadAll(in)
		for line := range strings.Lines(string(rest)) {
			if line[3] == ' ' {
				codes = append(codes, line[:3])
			}
		}
		wait()
		if want := strings.Fields(c.codes); !slices.Equal(codes, want) {
			t.Errorf("%q is answered %v, want %v", c.say, codes, want)
		}
		if b.calls != c.calls {
			t.Errorf("%q: go-smtp was called %d times, want %d", c.say, b.calls, c.calls)
		}
	}
}
