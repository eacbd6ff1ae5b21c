package process

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// A busy port names the process that holds it and how to choose another.
func TestBusyPort(t *testing.T) {
	for _, c := range []struct{ network, held, wanted string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "0.0.0.0:0", "127.0.0.1"},
		{"tcp4", "127.0.0.1:0", "0.0.0.0"},
		{"tcp6", "[::1]:0", "::1"},
	} {
		l, err := net.Listen(c.network, c.held)
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		want := netip.AddrPortFrom(netip.MustParseAddr(c.wanted), port)
		if _, err = Listen(t.Context(), []netip.AddrPort{want}); err == nil {
			t.Fatalf("%v is held and could be bound again", want)
		}
		self := holder{os.Getpid(), comm(t)}.String()
		for _, part := range []string{self, "smtp.listen"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v beside %s: %q does not say %q", want, c.held, err, part)
			}
		}
		l.Close()
	}
}

func comm(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestListenOnWhatIsNotOurs(t *testing.T) {
	_, err := Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:2525")})
	if err == nil || !strings.Contains(err.Error(), "smtp.listen") {
		t.Errorf("got %v, want an error that names smtp.listen", err)
	}
}

func TestParseProcAddr(t *testing.T) {
	for in, want := range map[string]string{
		"0100007F:0019":                         "127.0.0.1:25",
		"00000000:09DD":                         "0.0.0.0:2525",
		"00000000000000000000000001000000:0019": "[::1]:25",
		"0000000000000000FFFF00000100007F:0019": "127.0.0.1:25",
	} {
		if got, err := parseProcAddr(in); err != nil || got.String() != want {
			t.Errorf("parseProcAddr(%q) = %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "0100007F", "01:0019", "0100007F:zz"} {
		if got, err := parseProcAddr(in); err == nil {
			t.Errorf("parseProcAddr(%q) = %v, want an error", in, got)
		}
	}
}

func loopback() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
}
