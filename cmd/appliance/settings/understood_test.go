package settings

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/relay"
)

const oneInterface = "hostname = \"mx1.example.net\"\n[backend.b]\nurl = \"smtp://192.0.2.10\"\n[domain.\"example.com\"]\nbackends = [\"b\"]\n" +
	"[system.interfaces]\neth0 = [\"192.0.2.25/24\"]\n"

// An appliance whose file has a mistake takes mail by the rest of it, refuses
// nothing for good that the mistake may have been about, and says so.
func TestMistakesLeaveMailRunning(t *testing.T) {
	for _, c := range []struct {
		name, text string
		domain     string // that is understood
		alarm      string
		network    bool // the address of eth0 is understood
	}{
		{"a domain's server", oneInterface + "[domain.\"example.org\"]\nbackends = [\"x\"]\n", "example.com", `there is no backend "x"`, true},
		{"a key of a later release", oneInterface + "[later]\nx = 1\n", "example.com", "unknown table [later]", true},
		{"a file that is not there yet", "tls.certificates = [{ cert = \"/no\", key = \"/no\" }]\n" + oneInterface, "example.com", "certificate /no cannot be used", true},
		{"the only server", strings.Replace(oneInterface, "smtp://", "gopher://", 1), "nothing.invalid", "all mail is put off", true},
		{"not TOML at all", "{]\n\"\"\"", "nothing.invalid", "all mail is put off", false},
		{"nothing", "", "nothing.invalid", "all mail is put off", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.toml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, alarm := Understood(path)
			if !cfg.Partial || !strings.Contains(alarm, c.alarm) || len(cfg.System.Interfaces["eth0"]) == 1 != c.network {
				t.Errorf("partial %v, alarm %q, %v", cfg.Partial, alarm, cfg.System.Interfaces)
			}
			if len(cfg.Domains) != 1 || cfg.Domains[0].Name != c.domain {
				t.Fatalf("domains are %+v", cfg.Domains)
			}
			memory, err := relay.OpenMemory(t.TempDir(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			router, err := NewRouter(cfg, memory, NewResolver(cfg.DNS))
			if err != nil {
				t.Fatal(err)
			}
			route, ok := Unsure{router}.Route("example.org")
			if !ok {
				t.Fatal("a domain that may be ours is refused as relaying")
			}
			a := route.Oracle.Verify(t.Context(), address.Mailbox{Local: "anna", Domain: "example.org"})
			if r := route.Deliverer.Deliver(t.Context(), smtp.Envelope{}, nil); a.State != smtp.Unavailable || a.Reply.Code != 451 || r.Reply.Code != 451 {
				t.Errorf("recipients hear %v, messages %v", a, r.Reply)
			}
			if route, ok := (Unsure{router}).Route(c.domain); !ok || route.Name == "unsure" {
				t.Errorf("the route of %s is not its own", c.domain)
			}
		})
	}
}
