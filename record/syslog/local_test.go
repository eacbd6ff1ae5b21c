package syslog

import (
	"strings"
	"testing"
	"time"
)

func TestParseLocal(t *testing.T) {
	h := Header{Facility: 2, Hostname: "mx1.example.net", App: "weir", Proc: "1"}
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"<86>Nov 27 11:59:44 sshd[123]: Accepted publickey for anna": `<86>1 2026-11-27T12:00:00.000Z mx1.example.net sshd 123 - [meta sequenceId="7"] Accepted publickey for anna`,
		"<6>Nov  7 11:59:44 kernel: eth0: link up\n":                 `<6>1 2026-11-27T12:00:00.000Z mx1.example.net kernel - - [meta sequenceId="7"] eth0: link up`,
		"<13>Nov 27 11:59:44 who: a\nb\x1b[2J":                       `<13>1 2026-11-27T12:00:00.000Z mx1.example.net who - - [meta sequenceId="7"] a�b�[2J`,
		"<13>Nov 27 11:59:44 ":                                       `<13>1 2026-11-27T12:00:00.000Z mx1.example.net - - - [meta sequenceId="7"]`,
	} {
		m, err := ParseLocal([]byte(in))
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		m.Time = now
		if got := string(h.Append(nil, &m, 7)); got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
	for _, bad := range []string{"", "hello", "<>", "<6", "<192>Nov 27 11:59:44 x: y", "<6>x", "<-1>Nov 27 11:59:44 x: y", "<6>Nov 27 11-59-44x"} {
		if m, err := ParseLocal([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %+v", bad, m)
		}
	}
}

// FuzzParseLocal: whatever is said on the local socket, one line goes out.
func FuzzParseLocal(f *testing.F) {
	f.Add([]byte("<86>Nov 27 11:59:44 sshd[123]: Accepted"))
	f.Add([]byte("<6>Nov 27 11:59:44 a]\"=\\[: \n<6>1 - forged"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseLocal(b)
		if err != nil {
			return
		}
		h := Header{Hostname: "mx1"}
		line := string(h.Append(nil, &m, 1))
		if strings.ContainsAny(line, "\n\r\x00\x1b") || len(strings.SplitN(line, " ", 7)) < 7 {
			t.Errorf("%q becomes %q", b, line)
		}
	})
}
