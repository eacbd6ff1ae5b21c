package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const aConfig = `hostname = "mx1.example.com"

[backend.office]
url = "smtp://192.0.2.10:25"

[domain."example.com"]
backends = ["office"]
`

// A kept file that is good for nothing is set aside and told of, and the good one
// kept in its place; one that is merely older is not.
func TestDamagedKeptConfiguration(t *testing.T) {
	state := t.TempDir()
	file, folder := filepath.Join(state, "weir.toml"), filepath.Join(state, "guard")
	kept := filepath.Join(folder, Kept)
	for _, c := range []struct {
		old     string
		damaged bool
	}{{"\x00\xffnoise", true}, {aConfig[:len(aConfig)/2] + "[", true}, {aConfig + "\n# an older one\n", false}, {aConfig, false}} {
		for path, text := range map[string]string{file: aConfig, kept: c.old} {
			if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		Keep(file, kept)
		now, _ := os.ReadFile(kept)
		aside, _ := os.ReadFile(kept + SetAside)
		alarms := DamagedConfig(state)
		if string(now) != aConfig || len(alarms) == 1 != c.damaged || c.damaged && string(aside) != c.old {
			t.Errorf("%.20q: alarms %q, aside %.20q, kept %.20q", c.old, alarms, aside, now)
		}
		if c.damaged && !strings.Contains(alarms[0].Text, kept+SetAside) {
			t.Errorf("the alarm does not say where it is: %q", alarms)
		}
		os.RemoveAll(folder)
	}
}

// A mail role that starts as root obeys no file that its user could have
// written: it would name the user to become and the folders to give away.
func TestRootTakesNoConfigurationFromTheMailFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: another user has no more to lose than the mail role")
	}
	state := t.TempDir()
	good := "users.mail = \"nobody\"\nstate_dir = \"" + state + "\"\n" + strings.ReplaceAll(aConfig, "mx1.example.com", "kept.example.com")
	write := func(name, text string) string {
		path := filepath.Join(state, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := write("weir.toml", "state_dir = \""+state+"\"\nhostname = \"no name\"\n")
	write("mail/weir.toml.good", good)
	if cfg, _, err := startConfig(bad, "mail"); err == nil {
		t.Errorf("root runs what lay in the mail role's folder, as %s", cfg.Hostname)
	}
	write("guard/weir.toml.good", good)
	if cfg, alarms, err := startConfig(bad, "mail"); err != nil || cfg.Hostname != "kept.example.com" || len(alarms) != 1 {
		t.Errorf("the last good file of guard's folder: %s, %q, %v", cfg.Hostname, alarms, err)
	}
}
