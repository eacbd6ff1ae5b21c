package command

import (
	"context"
	"os"
	"path/filepath"
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
