package e2e

import (
	"context"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailweir/lab"
)

// TestFirstStart does what make run does, and then what it tells a stranger to
// do, word for word: a mail is sent and looked at, addresses are guessed from
// another machine, a ban is shown, and stopping leaves nothing in the kernel.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	mx := l.Host("trial", "192.0.2.25")
	other := l.Host("other", "203.0.113.66")
	w := mx.Weir("")
	l.Eventually(patience, "it says what to do", func() bool { return strings.Contains(w.Log(), "Ctrl-C") })
	said := w.Log()

	shell(t, mx, find(t, said, `swaks --server 127\.0\.0\.1:25 --to anna@example\.com`))
	folder := find(t, said, `cat (\S+/new)/\*`)
	l.Eventually(patience, "the mail lies in "+folder, func() bool {
		names, _ := filepath.Glob(mx.Path(folder + "/*"))
		return len(names) == 1
	})
	if out := shell(t, mx, "cat "+folder+"/*"); !strings.Contains(out, "This is a test mailing") {
		t.Errorf("the mail: %s", out)
	}
	if out := shell(t, mx, w.Binary()+" records"); !strings.Contains(out, "anna@example.com") {
		t.Errorf("weir records: %s", out)
	}

	guess := find(t, said, `(?s)for i in .*?done`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel() // its connection is dropped: it would wait for minutes
	go func() {
		_, _ = other.Run(ctx, "/bin/sh", "-c", strings.Replace(guess, "THIS-MACHINE", "192.0.2.25", 1))
	}()
	l.Eventually(3*patience, "weir bans shows the guesser", func() bool {
		return strings.Contains(shell(t, mx, w.Binary()+" bans"), "203.0.113.66")
	})
	if silent, err := timesOut(t.Context(), other, netip.Addr{}, edge4); !silent {
		t.Errorf("the guesser connects again: %v", err)
	}
	if out := shell(t, mx, "ip -d link show eth0"); !strings.Contains(out, "xdpgeneric") {
		t.Errorf("while it runs: %s", out)
	}

	if code := w.Stop(); code != 0 {
		t.Errorf("stopped with exit code %d", code)
	}
	if out := shell(t, mx, "ip -d link show eth0; nft list ruleset; ls /sys/fs/bpf"); strings.Contains(out, "xdp") || strings.Contains(out, "mailweir") {
		t.Errorf("after the stop there is left: %s", out)
	}
}

// shell runs a command line on a host; it has to succeed.
func shell(t *testing.T, h *lab.Host, line string) string {
	t.Helper()
	out, err := h.Run(t.Context(), "/bin/sh", "-c", line)
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// find returns what matches in a text: the group, or all of it.
func find(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %q in\n%s", pattern, text)
	}
	return m[len(m)-1]
}
