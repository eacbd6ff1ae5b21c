package command

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestManualIsFresh holds the generated chapters of the manual against the
// program: who changes a key or a command sees at once what to run.
func TestManualIsFresh(t *testing.T) {
	t.Setenv("WEIR_RUN_DIR", "")
	dir := t.TempDir()
	c := &cli{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now}
	if code := c.execute(context.Background(), []string{"manual", dir}); code != 0 {
		t.Fatalf("weir manual: exit status %d", code)
	}
	chapters, err := os.ReadDir(dir)
	if err != nil || len(chapters) == 0 {
		t.Fatal("no chapter was written", err)
	}
	for _, chapter := range chapters {
		want, err := os.ReadFile(filepath.Join(dir, chapter.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("../../../docs", chapter.Name()))
		if err != nil || string(got) != string(want) {
			t.Errorf("docs/%s is not what the program says (%v): run make generate", chapter.Name(), err)
		}
	}
}

// A command that has others below it and does something itself is in the manual.
func TestManualHasCommandsThatHoldOthers(t *testing.T) {
	text, err := os.ReadFile("../../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string]bool{"## weir lists": true, "## weir lists import": true, "## weir firewall": false} {
		if got := slices.Contains(strings.Split(string(text), "\n"), heading); got != want {
			t.Errorf("docs/commands.md has %q: %v, want %v", heading, got, want)
		}
	}
}
