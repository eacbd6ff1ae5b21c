package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mail role that starts as root obeys no file that its user could have
// written: it would name the user to become and the folders to give away.
func TestRootTakesNoConfigurationFromTheMailFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: another user has no more to lose than the mail role")
	}
	state := t.TempDir()
	good := "users.mail = \"nobody\"\nstate_dir = \"" + state + "\"\n" + strings.ReplaceAll(keyBase, "mx1.example.com", "kept.example.com")
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
