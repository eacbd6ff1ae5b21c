package wire

import (
	"regexp"
	"strings"
	"testing"
)

// received is what RFC 5321 makes of the octets behind DATA, written as plainly
// as possible: what is before the first CRLF . CRLF, the leading dot of its
// lines taken off, and line ends made CRLF. ok: the end was there.
func received(raw string) (message, rest string, ok bool) {
	const end = "\r\n.\r\n"
	text, rest, ok := strings.Cut("\r\n"+raw, end)
	if !ok {
		return "", "", false
	}
	lines := strings.Split(text, "\r\n")[1:]
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, ".")
	}
	message = strings.Join(lines, "\r\n")
	if len(lines) > 0 {
		message += "\r\n"
	}
	return lineEnd.ReplaceAllString(message, "\r\n"), rest, true
}

var lineEnd = regexp.MustCompile("\r+\n|\n|\r")

// unstuffed reads the canonical form back, and checks that it is canonical.
func unstuffed(t *testing.T, canonical string) string {
	t.Helper()
	body, ok := strings.CutSuffix(canonical, ".\r\n")
	if !ok || strings.Contains("\r\n"+body, "\r\n.\r\n") {
		t.Fatalf("%q does not end once, at its end", canonical)
	}
	if bare := strings.ReplaceAll(body, "\r\n", ""); strings.ContainsAny(bare, "\r\n") {
		t.Fatalf("%q has bare line ends", canonical)
	}
	lines := strings.SplitAfter(body, "\r\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, ".")
	}
	return strings.Join(lines, "")
}

// filterAll runs raw through a dataFilter in pieces.
func filterAll(raw string, in, out int) (canonical, rest string, f dataFilter) {
	var b strings.Builder
	dst := make([]byte, out)
	for f.state != dataEnd && raw != "" {
		n, used := f.run(dst, []byte(raw[:min(in, len(raw))]))
		b.Write(dst[:n])
		raw = raw[used:]
	}
	return b.String(), raw, f
}

func TestDataFilter(t *testing.T) {
	for _, tt := range []struct {
		name, raw, want string
		bareLF, bareCR  bool
	}{
		{"empty", ".\r\n", "", false, false},
		{"plain", "a\r\nb\r\n.\r\n", "a\r\nb\r\n", false, false},
		{"stuffed", "..\r\n...\r\n.\r\n", ".\r\n..\r\n", false, false},
		{"LF . LF", "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true, false},
		{"LF . CRLF", "a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true, false},
		{"CRLF . LF", "a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n", true, false},
		{"CR . CR", "a\r.\rb\r\n.\r\n", "a\r\n.\r\nb\r\n", false, true},
		{"CR . CRLF", "a\r.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", false, true},
		{"CRLF . CR", "a\r\n.\rb\r\n.\r\n", "a\r\n\r\nb\r\n", false, true},
		{"CRLF . CR CRLF", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\nb\r\n", false, true},
		{"CRLF . NUL CRLF", "a\r\n.\x00\r\nb\r\n.\r\n", "a\r\n\x00\r\nb\r\n", false, false},
		{"CRLF CRLF . LF", "a\r\n\r\n.\nb\r\n.\r\n", "a\r\n\r\n\r\nb\r\n", true, false},
		{"LF CRLF . CRLF is the end", "a\n\r\n.\r\n", "a\r\n\r\n", true, false},
		{"CR CRLF is one line end", "a\r\r\nb\r\r\r\n.\r\n", "a\r\nb\r\n", false, true},
		{"CR CR are two", "a\r\rb\r\n.\r\n", "a\r\n\r\nb\r\n", false, true},
		{"dots behind bare ends", "\n.x\r..y\r\n.\r\n", "\r\n.x\r\n..y\r\n", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{1, 2, 3, 1000} {
				canonical, rest, f := filterAll(tt.raw+"QUIT", piece, max(piece, stepRoom))
				if got := unstuffed(t, canonical); got != tt.want || rest != "QUIT" {
					t.Fatalf("in pieces of %d: got %q, rest %q, want %q", piece, got, rest, tt.want)
				}
				if f.bareLF != tt.bareLF || f.bareCR != tt.bareCR || f.size != int64(len(tt.want)) {
					t.Fatalf("in pieces of %d: bare LF %v, bare CR %v, size %d", piece, f.bareLF, f.bareCR, f.size)
				}
			}
		})
	}
}

// Whatever comes, in whatever pieces: the end is CRLF . CRLF and nothing else,
// the message is what the RFC says, and its form is canonical.
func FuzzDataFilter(f *testing.F) {
	for _, s := range []string{"a\n.\nb", "a\r.\r\nb", ".\r\r\n", "\r\r\n.\r\n", "..\r\n.\n", "\r", "\n.\r\nMAIL FROM:<x@y.z>\r\n"} {
		f.Add(s, byte(1), byte(3))
		f.Add(s, byte(9), byte(4))
	}
	f.Fuzz(func(t *testing.T, raw string, in, out byte) {
		raw += "\r\n.\r\nrest"
		want, wantRest, ok := received(raw)
		if !ok {
			t.Skip()
		}
		canonical, rest, filter := filterAll(raw, int(in)+1, int(out)+stepRoom)
		if filter.state != dataEnd || rest != wantRest {
			t.Fatalf("%q: rest %q, want %q", raw, rest, wantRest)
		}
		if got := unstuffed(t, canonical); got != want {
			t.Fatalf("%q: got %q, want %q", raw, got, want)
		}
		if filter.size != int64(len(want)) {
			t.Fatalf("%q: size %d, want %d", raw, filter.size, len(want))
		}
	})
}

func BenchmarkDataFilter(b *testing.B) {
	raw := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1000))
	dst := make([]byte, 4096)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		f := dataFilter{}
		for src := raw; len(src) > 0; {
			_, used := f.run(dst, src)
			src = src[used:]
		}
	}
}
