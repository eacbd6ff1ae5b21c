package main

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

// An appliance whose file has a mistake takes mail by the rest of it, refuses
// nothing for good that the mistake may have been about, and says so.
func TestMistakesLeaveMailRunning(t *testing.T) {
	for _, c := range []struct {
		name, text string
		domain     string // that is understood
		alarm      string
		network    bool // the address of eth0 is understood
	}{
		{"a domain's server", before + "[domain.\"example.org\"]\nbackends = [\"x\"]\n", "example.com", `there is no backend "x"`, true},
		{"a key of a later release", before + "[later]\nx = 1\n", "example.com", "unknown table [later]", true},
		{"a file that is not there yet", "tls.certificates = [{ cert = \"/no\", key = \"/no\" }]\n" + before, "example.com", "certificate /no cannot be used", true},
		{"the only server", strings.Replace(before, "smtp://", "gopher://", 1), "nothing.invalid", "all mail is put off", true},
		{"not TOML at all", "{]\n\"\"\"", "nothing.invalid", "all mail is put off", false},
		{"nothing", "", "nothing.invalid", "all mail is put off", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.toml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, alarm := understoodConfig(path)
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
			router, err := newRouter(cfg, memory, newResolver(cfg.DNS))
			if err != nil {
				t.Fatal(err)
			}
			route, ok := unsure{router}.Route("example.org")
			if !ok {
				t.Fatal("a domain that may be ours is refused as relaying")
			}
			a := route.Oracle.Verify(t.Context(), address.Mailbox{Local: "anna", Domain: "example.org"})
			if r := route.Deliverer.Deliver(t.Context(), smtp.Envelope{}, nil); a.State != smtp.Unavailable || a.Reply.Code != 451 || r.Reply.Code != 451 {
				t.Errorf("recipients hear %v, messages %v", a, r.Reply)
			}
			if route, ok := (unsure{router}).Route(c.domain); !ok || route.Name == "unsure" {
				t.Errorf("the route of %s is not its own", c.domain)
			}
		})
	}
}

// At boot the machine has the addresses of the file, of the last good one, or
// what is understood of the file, in this order, and says which.
func TestBootConfig(t *testing.T) {
	m := newMachine(t)
	bad := strings.Replace(after, "[backend.b]", "[backend.b]\nx = 1", 1)
	for _, c := range []struct {
		name, text, applied, alarm string
		interfaces                 int
	}{
		{"good", after, before, "", 2},
		{"bad, and a good one before", bad, before, "those of the last good one", 1},
		{"bad from the first", bad, "", "mail runs by the rest of it", 2},
		{"names a file that is not there", "tls.certificates = [{ cert = \"/no\", key = \"/no\" }]\n" + after, before, "/no cannot be used", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.put(c.text)
			if err := os.WriteFile(m.path(appliedFile), []byte(c.applied), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, alarm, err := m.bootConfig()
			if err != nil || len(cfg.System.Interfaces) != c.interfaces || !strings.Contains(alarm, c.alarm) || alarm == "" != (c.alarm == "") {
				t.Errorf("%d interfaces, alarm %q, %v", len(cfg.System.Interfaces), alarm, err)
			}
		})
	}
}
