package settings

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailweir/config"
	"mailweir/lab"
	"mailweir/smtp"
)

// TestCheckAsksAsTheMailRole: root may read everything, and must not tell the
// operator that all is well with a key that the mail role cannot read.
func TestCheckAsksAsTheMailRole(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: asks as another user")
	}
	dir, err := os.MkdirTemp("/tmp", "weir-check-") // t.TempDir lies in folders that only we may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(dir, "mx.pem")
	if err := os.WriteFile(pem, lab.CertificatePEM(t, lab.Certificate(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "hostname = \"mx1.example.net\"\nusers.mail = \"nobody\"\n[tls]\ncertificates = [{ cert = \"" + pem + "\", key = \"" + pem + "\" }]\n" +
		"[backend.office]\nurl = \"smtp://mail.example.com\"\n[domain.\"example.com\"]\nbackends = [\"office\"]\n"
	complains := func() bool {
		f, cfg, problems := config.Parse("weir.toml", []byte(text))
		if problems.Bad() {
			t.Fatal(problems)
		}
		return strings.Contains(Problems(f, cfg).Error(), "the mail role may not read "+pem)
	}
	if !complains() {
		t.Error("a key of mode 600 passes")
	}
	if err := os.Chmod(pem, 0o644); err != nil {
		t.Fatal(err)
	}
	if complains() {
		t.Error("a key that everybody may read does not pass")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if !complains() {
		t.Error("a key in a folder that only root may enter passes")
	}
}

// TestTiers: whom the file names is protected, and this machine itself.
func TestTiers(t *testing.T) {
	var cfg config.Config
	cfg.SMTP.Forwarders = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	cfg.Firewall.NeverBan = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	tiers := NewTiers(cfg, nil)
	for text, want := range map[string]smtp.Tier{
		"198.51.100.7": smtp.Protected, "::ffff:198.51.100.7": smtp.Protected, "2001:db8::7": smtp.Protected,
		"127.0.0.1": smtp.Protected, "::1": smtp.Protected, "203.0.113.7": smtp.New,
	} {
		if got := tiers.Tier(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	tiers.Set(config.Config{})
	if got := tiers.Tier(netip.MustParseAddr("198.51.100.7")); got != smtp.New {
		t.Errorf("after a reload without it, a forwarder is %s", got)
	}
}

// weir check tells of a name that nobody set, and of a backend that is the edge
// itself, by address or by name.
func TestCheckNamesOurselves(t *testing.T) {
	for _, c := range []struct{ hostname, url, want string }{
		{"set-hostname.invalid", "smtp://mail.example.com", "set-hostname.invalid is no real name"},
		{"mx1.example.net", "smtp://mx1.example.net:25", "has our own name"},
		{"mx1.example.net", "smtp://127.0.0.1:25", "our own SMTP port"},
		{"mx1.example.net", "smtp://mx1.example.net:2525", ""},
	} {
		f, cfg, problems := config.Parse("weir.toml", []byte("hostname = \""+c.hostname+"\"\nusers.mail = \"nobody\"\n[backend.office]\nurl = \""+c.url+
			"\"\n[domain.\"example.com\"]\nbackends = [\"office\"]\n"))
		if problems.Bad() {
			t.Fatal(problems)
		}
		got := Problems(f, cfg).Error()
		if strings.Contains(c.want, "our own name") && Problems(f, cfg).Bad() {
			t.Errorf("%+v: is no more than a warning: a name may lead elsewhere inside", c)
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
