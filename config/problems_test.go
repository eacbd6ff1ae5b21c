package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProblems reads testdata/problems/*.toml. Each file ends with a comment
// that says which problems it has, a line each, as `weir check` shows them.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files to read", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			body, comment, ok := strings.Cut("\n"+string(text), "\n#! problems\n")
			body = strings.TrimPrefix(body, "\n")
			if !ok {
				t.Fatal("the file does not say which problems it has")
			}
			var want []string
			for line := range strings.Lines(comment) {
				want = append(want, strings.TrimSpace(strings.TrimPrefix(line, "#!")))
			}
			_, _, problems := Parse("weir.toml", []byte(body))
			if got := problems.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}
