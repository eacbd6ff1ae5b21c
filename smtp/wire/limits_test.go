package wire

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

// ask plays a whole dialogue at once, which is a slip behind EHLO and behind
// DATA, and returns its replies without those of the opening.
func ask(t *testing.T, cfg Config, input string) (replies []string, b *backend, ev *events) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Hostname = "mx.example.net"
		var output string
		output, b, ev = converse(t, cfg, opening+input, 4096)
		_, output, _ = strings.Cut(output, "250 2.1.5 Recipient ok\r\n")
		replies = strings.Split(strings.TrimSuffix(output, "\r\n"), "\r\n")
	})
	return replies, b, ev
}

func wantReplies(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLongCommands(t *testing.T) {
	const (
		tooLong  = "500 5.5.2 Line too long" + mark
		badChunk = "501 5.5.2 Say BDAT size [LAST]; closing the connection" + mark // or its octets were commands
	)
	longest := "NOOP " + strings.Repeat("x", MaxCommandLine-7)
	for name, tt := range map[string]struct {
		line, slips string
		want        []string
	}{
		"longest":               {longest, "pipelining", []string{"250 2.0.0 Ok", "250 2.0.0 Ok"}},
		"too long":              {longest + "x", "pipelining long_line", []string{tooLong, "250 2.0.0 Ok"}},
		"much more":             {strings.Repeat(longest, 20), "pipelining long_line", []string{tooLong, "250 2.0.0 Ok"}},
		"endless":               {strings.Repeat(longest, 40), "pipelining long_line", []string{"521 5.5.1 This is a mail server, and that was not SMTP" + mark}},
		"a chunk behind it":     {"BDAT 6 LAST" + strings.Repeat(" ", MaxCommandLine), "pipelining long_line bad_syntax", []string{badChunk}},
		"and behind a long one": {"bdat 6" + strings.Repeat(" ", 8*MaxCommandLine), "pipelining long_line bad_syntax", []string{badChunk}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, ev := ask(t, Config{}, tt.line+"\r\nNOOP\r\n")
			wantReplies(t, got, tt.want...)
			if ev.slipped() != tt.slips {
				t.Errorf("slips %q, want %q", ev.slipped(), tt.slips)
			}
		})
	}
}

// A line over go-smtp's 2000 octets is mail; one over ours is refused, and the
// session goes on.
func TestLongBodyLines(t *testing.T) {
	const takes = "354 Go ahead. End your data with <CR><LF>.<CR><LF>"
	line := strings.Repeat("x", MaxBodyLine-2) + "\r\n"
	got, b, ev := ask(t, Config{}, "DATA\r\n"+line+line+".\r\nNOOP\r\n")
	wantReplies(t, got, takes, "250 2.0.0 backend: taken", "250 2.0.0 Ok")
	if m := b.delivered(); len(m) != 1 || m[0].body != line+line || ev.slipped() != "pipelining pipelining" {
		t.Errorf("%d mails, slips %q", len(m), ev.slipped())
	}
	got, b, ev = ask(t, Config{}, "DATA\r\nx"+line+".\r\nNOOP\r\n")
	wantReplies(t, got, takes, "554 5.6.0 Line too long"+mark, "250 2.0.0 Ok")
	if m := b.delivered(); len(m) != 0 || ev.slipped() != "pipelining pipelining long_line" {
		t.Errorf("%d mails, slips %q", len(m), ev.slipped())
	}
}

// A body that is too big is read to its end, so that the client hears why, but
// not without end.
func TestBodyBounds(t *testing.T) {
	cfg := Config{MaxMessageSize: 1 << 10}
	line := strings.Repeat("x", 1022) + "\r\n"
	got, b, _ := ask(t, cfg, "DATA\r\n"+strings.Repeat(line, 100)+".\r\nNOOP\r\n")
	wantReplies(t, got[1:], "552 5.3.4 Message too big"+mark, "250 2.0.0 Ok")
	got, _, _ = ask(t, cfg, "DATA\r\n"+strings.Repeat(line, 2000)+".\r\nNOOP\r\n")
	wantReplies(t, got[1:], "552 5.3.4 Message too big"+mark)
	if m := b.delivered(); len(m) != 0 {
		t.Errorf("%d mails", len(m))
	}
	got, b, _ = ask(t, cfg, "DATA\r\n"+line+".\r\n")
	wantReplies(t, got[1:], "250 2.0.0 backend: taken")
	if m := b.delivered(); len(m) != 1 {
		t.Errorf("%d mails", len(m))
	}
}

// What the session is told of a body that does not come whole.
func TestBrokenBodies(t *testing.T) {
	for name, tt := range map[string]struct {
		input string
		want  error
	}{
		"too big":            {"DATA\r\n" + strings.Repeat("x\r\n", 10) + ".\r\n", ErrRefused},
		"chunk too big":      {"BDAT 30 LAST\r\n" + strings.Repeat("x\r\n", 10), ErrRefused},
		"bare LF in a chunk": {"BDAT 2 LAST\r\nx\n", ErrRefused},
		"given up by RSET":   {"BDAT 3\r\nx\r\nRSET\r\n", ErrAborted},
		"given up by EHLO":   {"BDAT 3\r\nx\r\nEHLO again\r\n", ErrAborted},
		"given up by QUIT":   {"BDAT 3\r\nx\r\nQUIT\r\n", ErrAborted},
		"client gone":        {"DATA\r\nx\r\n", net.ErrClosed},
		"client gone, BDAT":  {"BDAT 9 LAST\r\nx\r\n", net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			_, b, _ := ask(t, Config{MaxMessageSize: 20}, tt.input)
			if errs := b.failures(); len(errs) != 1 || errs[0] != tt.want || len(b.delivered()) > 0 {
				t.Errorf("the body ended with %v, want %v", errs, tt.want)
			}
		})
	}
}

// Every reply is reported, whoever made it, in the order of the commands.
func TestRepliedInOrder(t *testing.T) {
	_, _, ev := ask(t, Config{}, "XYZZY\r\nRCPT TO:<unknown@example.com>\r\nBDAT 3\r\nx\r\nBDAT 0 LAST\r\nRSET\r\nQUIT\r\n")
	want := " 220|EHLO 250|MAIL 250|RCPT 250|XYZZY 500|RCPT 550|BDAT 250|BDAT 250|RSET 250|QUIT 221"
	if got := strings.Join(ev.said(), "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Replies to commands that came in one packet leave in one (RFC 2920 section
// 3.2), and none is held back while the client is awaited.
func TestRepliesArePipelined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		c := New(server, Config{Hostname: "mx.example.net"}, &events{})
		serve(t, c, &backend{})
		in := bufio.NewReaderSize(client, 4096)
		in.ReadString('\n')
		go io.WriteString(client, opening+"RCPT TO:<c@example.com>\r\nRCPT TO:<unknown@example.com>\r\n")
		buf := make([]byte, 4096)
		client.Read(buf) // EHLO's
		n, _ := client.Read(buf)
		if got := strings.Count(string(buf[:n]), "\r\n"); got != 4 {
			t.Errorf("%d replies in the packet: %q", got, buf[:n])
		}
	})
}
