package settings

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailweir/config"
)

// TestFirstFileIsGood: what a stranger starts with has no mistake, and the
// lines that he may uncomment show the defaults.
func TestFirstFileIsGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "weir.toml")
	if err := WriteFirst(path, Guest); err != nil {
		t.Fatal(err)
	}
	f, cfg, problems, err := config.Read(path)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if !cfg.Firewall.DetachOnStop || cfg.Firewall.XDPMode != "generic" {
		t.Errorf("a trial leaves something on a stranger's card: %+v", cfg.Firewall)
	}
	if cfg.Domains[0].Recipients.From != config.FromFile {
		t.Errorf("recipients are %+v: guesses would not show", cfg.Domains[0].Recipients)
	}
	shown := regexp.MustCompile(`(?m)^# ([a-z_]+ = )`).ReplaceAllString(string(f.Text), "$1")
	if shown == string(f.Text) {
		t.Fatal("no default is shown")
	}
	_, uncommented, problems := config.Parse(path, []byte(shown))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if now, later := config.Diff(cfg, uncommented); len(now)+len(later) > 0 {
		t.Errorf("the file shows other values than the defaults of %v %v", now, later)
	}
}

// TestFirstFileOfTheImage: there bans outlive a restart of guard, and the quick
// way into the kernel is tried first.
func TestFirstFileOfTheImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	if err := WriteFirst(path, Appliance); err != nil {
		t.Fatal(err)
	}
	_, cfg, problems, err := config.Read(path)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if cfg.Firewall.DetachOnStop || cfg.Firewall.XDPMode != "auto" {
		t.Errorf("the firewall of the image: %+v", cfg.Firewall)
	}
	if !StillFirst(path, cfg.Hostname) {
		t.Error("the first configuration of the image is not known again")
	}
}

// TestStillFirst: whoever starts the first configuration again reads the first
// steps again, until a hand has changed it.
func TestStillFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	if StillFirst(path, "mx1.example.net") {
		t.Error("a file that is not there is the first one")
	}
	if err := WriteFirst(path, Guest); err != nil {
		t.Fatal(err)
	}
	f, cfg, _, err := config.Read(path)
	if err != nil || !StillFirst(path, cfg.Hostname) {
		t.Errorf("the first configuration is not known again: %v", err)
	}
	if err := os.WriteFile(path, append(f.Text, "# mine\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if StillFirst(path, cfg.Hostname) {
		t.Error("what a hand has changed is still the first one")
	}
}

// TestFirstFileWritesNothingOver: who has a list of recipients keeps it.
func TestFirstFileWritesNothingOver(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "recipients")
	if err := os.WriteFile(mine, []byte("mine@example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteFirst(filepath.Join(dir, "weir.toml"), Guest); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(mine); err != nil || !strings.Contains(string(text), "mine@") {
		t.Errorf("the list became %q, %v", text, err)
	}
}

func TestQualified(t *testing.T) {
	for name, want := range map[string]string{"mx1.example.net": "mx1.example.net", "MX1.Example.NET": "mx1.example.net", "not a name": "set-hostname.invalid", "localhost": "set-hostname.invalid"} {
		if got := Qualified(name); got != want {
			t.Errorf("a machine called %q greets as %q, want %q", name, got, want)
		}
	}
}
