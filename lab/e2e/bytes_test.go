package e2e

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// corpus are bodies that relays have been known to change.
func corpus() map[string]string {
	random := rand.New(rand.NewPCG(1, 2))
	bytes := make([]byte, 64<<10)
	for i := range bytes {
		// Any byte but those of line ends, which have cases of their own.
		for bytes[i] = byte(random.Uint32()); bytes[i] == '\r' || bytes[i] == '\n'; {
			bytes[i] = byte(random.Uint32())
		}
		if i%70 == 69 {
			bytes[i-1], bytes[i] = '\r', '\n'
		}
	}
	return map[string]string{
		"dots":            ".\r\n..\r\n...\r\n.x\r\nx.\r\n. \r\n",
		"dot first":       ".leading\r\n",
		"empty body":      "",
		"empty lines":     "\r\n\r\n\r\n",
		"NUL":             "a\x00b\r\n\x00\r\n\x00\x00\x00\r\n",
		"8-bit":           "gr\xfc\xdfe \xff\xfe\x80\r\nschön, 日本語, \U0001F4EC\r\n",
		"controls":        "\x01\x02\x08\x0b\x0c\x1b\x7f\r\n",
		"998 bytes":       strings.Repeat("x", 998) + "\r\n",
		"trailing spaces": "x \r\ny\t\r\n \r\n\t\r\n",
		"from":            "From the start\r\n>From quoted\r\nFrom: x\r\n",
		"no final CRLF":   "last line without an end",
		"looks like SMTP": "QUIT\r\nDATA\r\n250 OK\r\nRSET\r\n",
		"1 MiB":           strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\r\n", 1<<14),
		"random bytes":    string(bytes),
	}
}

// received finds our trace header: what follows it is the message as it came.
var received = regexp.MustCompile(`(?m)^Received: from .*\n(?:[ \t].*\n)*?[ \t]+by mx1\.example\.com.*\n(?:[ \t].*\n)*`)

// TestBytesSurvive sends the corpus through the edge to Postfix and compares
// checksums: nothing may change but what smtp-filter.md section 6.2 names. The
// file ends lines with LF, as every maildir does, and ends in one.
func TestBytesSurvive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start("192.0.2.10:25")
	n := 0
	for name, body := range corpus() {
		n++
		id := fmt.Sprintf("<bytes-%d@sender.example>", n)
		t.Run(name, func(t *testing.T) {
			c, _, err := s.sender.SMTP(t.Context(), s.sender.Addr(), edge4)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sent := message(id, name, body)
			if r, err := c.Deliver("x@sender.example", []string{anna}, sent); err != nil || r.Code != 250 {
				t.Fatalf("%v, %v", r, err)
			}
			file := s.delivered(anna, id)
			at := received.FindStringIndex(file)
			if at == nil {
				t.Fatalf("no Received line of ours in\n%.2000q", file)
			}
			want := strings.ReplaceAll(sent, "\r\n", "\n")
			if !strings.HasSuffix(want, "\n") {
				want += "\n"
			}
			got := file[at[1]:]
			if g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want)); g != w {
				t.Errorf("sha256 %x, want %x\ngot  %.500q\nwant %.500q", g, w, got, want)
			}
		})
	}
}
