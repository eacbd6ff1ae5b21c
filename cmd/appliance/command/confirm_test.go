package command

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"mailweir/firewall/guard"
)

func TestParseSession(t *testing.T) {
	want := guard.Session{Peer: netip.MustParseAddr("2001:db8::7"), Port: 2222}
	if s, ok := parseSession("2001:db8::7 50000 2001:db8::1 2222"); !ok || s != want {
		t.Errorf("got %+v, %v", s, ok)
	}
	for _, bad := range []string{"", "203.0.113.7", "203.0.113.7 50000 198.51.100.1 ssh", "a b c 22", "203.0.113.7 50000 198.51.100.1 0"} {
		if s, ok := parseSession(bad); ok {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

// sudo takes SSH_CONNECTION away; the shell above has it still.
func TestSessionThroughSudo(t *testing.T) {
	if os.Getenv("WEIR_TEST_SESSION") != "" {
		t.Logf("session %v", session())
		return
	}
	// The inner shell has an environment without it, as after sudo.
	cmd := exec.Command("sh", "-c", `env -u SSH_CONNECTION WEIR_TEST_SESSION=1 /proc/self/exe -test.v -test.run '^TestSessionThroughSudo$'; true`)
	cmd.Args[2] = strings.Replace(cmd.Args[2], "/proc/self/exe", os.Args[0], 1)
	cmd.Env = append(os.Environ(), "SSH_CONNECTION=203.0.113.7 50000 198.51.100.1 22")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "session {203.0.113.7 22}") {
		t.Errorf("%v: %s", err, out)
	}
}
