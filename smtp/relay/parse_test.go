package relay

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"mailweir/smtp/reply"
)

func parse(s string) (reply.Reply, error) {
	resp, err := readResponse(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine))
	return resp.reply(), err
}

func TestReadResponse(t *testing.T) {
	tests := []struct{ in, want string }{
		{"250 ok\r\n", "250 ok"},
		{"250\r\n", "250 "},
		{"250 2.1.5 ok\n", "250 2.1.5 ok"},
		{"550-5.1.1 no such\r\n550 5.1.1 user\r\n", "550 5.1.1 no such user"},
		{"550-first\r\n550 5.1.1 last\r\n", "550 5.1.1 first last"},
		{"550 4.1.1 class of the code is another\r\n", "550 class of the code is another"},
		{"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n", "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"},
		{"550 5.1.1234 too long\r\n", "550 5.1.1234 too long"},
		{"250-\r\n250 \r\n", "250 "},
	}
	for _, c := range tests {
		got, err := parse(c.in)
		if err != nil || got.Line() != c.want {
			t.Errorf("%q: %q, %v, want %q", c.in, got.Line(), err, c.want)
		}
	}
	for _, bad := range []string{"", "25", "25\r\n", "250", "250x\r\n", "150 x\r\n", "650 x\r\n", "ok\r\n", "250-a\r\n", "250-a\r\n251 b\r\n", " 250 a\r\n",
		"250 " + strings.Repeat("x", maxReplyLine) + "\r\n", strings.Repeat("250-x\r\n", maxReplyLines+1)} {
		if got, err := parse(bad); err == nil {
			t.Errorf("%.40q was taken as %q", bad, got.Line())
		}
	}
}

// FuzzReply: whatever a backend writes is read within bounds, has a meaning at
// every stage, and can be said again without breaking a line.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "550-5.1.1 a\r\n550 5.1.1 b\r\n", "550 <a@b>: \"x\"@y (#5.1.1)\r\n", "421", "550 \x00\xff\r\n", "550 <\r\n", "550 \"\r\n"} {
		f.Add([]byte(s))
	}
	b, err := NewBackend(BackendOptions{Name: "b", URL: URL{Scheme: "smtp", Network: "tcp", Host: "mx.internal", Port: "25"}})
	if err != nil {
		f.Fatal(err)
	}
	b.health.called = "mx.fake.example"
	f.Fuzz(func(t *testing.T, in []byte) {
		resp, err := readResponse(bufio.NewReaderSize(bytes.NewReader(in), maxReplyLine))
		if err != nil {
			return
		}
		r := resp.reply()
		if r.Code < 200 || r.Code > 599 || len(resp.lines) > maxReplyLines {
			t.Fatalf("%q was read as %d with %d lines", in, r.Code, len(resp.lines))
		}
		for stage := range order {
			m := MeaningOf(stage, r)
			if m == UnknownUser && (stage != AtRcpt || !r.Permanent()) {
				t.Fatalf("%q is an unknown user at %s", in, stage)
			}
			if m == Taken && r.Code >= 400 {
				t.Fatalf("%q is taken at %s", in, stage)
			}
		}
		for _, said := range []reply.Reply{passOn(r, b), forNow(r)} {
			if line := said.Line(); strings.ContainsAny(line, "\r\n\x00") || len(line) > 512 {
				t.Fatalf("%q would be said as %q", in, line)
			}
		}
		remedy(r.Text)
	})
}

// FuzzDots: what a server makes of our stuffing is what went in, however it was
// cut into pieces.
func FuzzDots(f *testing.F) {
	f.Add([]byte(".\r\n..\r\n.a\r\n"), 3)
	f.Add([]byte("a\r\n.\r\nMAIL FROM:<x>\r\n"), 1)
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
			body = append(body, "\r\n"...)
		}
		var out bytes.Buffer
		w := &dotWriter{w: &out, start: true}
		for rest := body; len(rest) > 0; {
			n := min(max(piece, 1), len(rest))
			w.Write(rest[:n])
			rest = rest[n:]
		}
		out.WriteString(".\r\n")
		var got []byte
		lines := bytes.SplitAfter(out.Bytes(), []byte("\r\n"))
		for i, line := range lines {
			if bytes.Equal(line, []byte(".\r\n")) {
				if i != len(lines)-2 {
					t.Fatalf("the message ends in its middle: %q", out.Bytes())
				}
				break
			}
			got = append(got, bytes.TrimPrefix(line, []byte("."))...)
		}
		if !bytes.Equal(got, body) {
			t.Fatalf("%q arrives as %q", body, got)
		}
	})
}
