package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A file that the configuration names comes in by its name alone, and never over
// the configuration itself.
func TestSystemPut(t *testing.T) {
	const before = "hostname = \"mx1.example.net\"\n"
	dir := t.TempDir()
	path := filepath.Join(dir, "weir.toml")
	if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) (string, error) {
		cmd := exec.Command(os.Args[0], "system", "put", "-c", path, "--", name)
		cmd.Env = append(os.Environ(), "WEIR_TEST_CONSOLE=weir")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for range 2 {
		if out, err := put("ca.pem", "a certificate\n"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "ca.pem")); string(text) != "a certificate\n" {
		t.Errorf("the file holds %q", text)
	}
	for _, bad := range []string{"../x", "weir.toml", "weir.toml.before", ".x", "a/b", "", "Ä"} {
		if out, err := put(bad, "x"); err == nil {
			t.Errorf("%q is taken: %s", bad, out)
		}
	}
	for _, text := range []string{"", strings.Repeat("x", 8<<20+1)} {
		if out, err := put("list", text); err == nil {
			t.Errorf("%d bytes are taken: %s", len(text), out)
		}
	}
	if now, _ := os.ReadFile(path); string(now) != before {
		t.Errorf("the configuration is %q", now)
	}
}
