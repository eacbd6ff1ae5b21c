package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse holds that no text makes the reader fall over, that every problem
// has a place in the text, and that setting a value changes nothing else.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/problems/*.toml")
	for _, name := range append(files, "testdata/contract.toml") {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(office))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, _, problems := Parse("weir.toml", text)
		lines := 1 + bytes.Count(text, []byte("\n"))
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Col < 1 || p.What == "" || p.Hint == "" {
				t.Errorf("problem without a place, a word or a hint: %+v", p)
			}
		}
		if file.doc == nil {
			return
		}
		for _, e := range file.doc.entries {
			holdEdit(t, file, e)
		}
		next, _, _, err := file.Set("dns.timeout", `"7s"`)
		if err != nil {
			t.Fatal(err)
		}
		holdValue(t, next, "dns.timeout", `"7s"`)
	})
}

// holdEdit sets one value to itself: the text must stay as it is.
func holdEdit(t *testing.T, file *File, e entry) {
	t.Helper()
	value := string(file.Text[e.value.at.from:e.value.at.to])
	if strings.Contains(joinPath(e.path), `\`) || strings.Contains(value, "\n") {
		return // names that no command line has
	}
	next, _, _, err := file.Set(joinPath(e.path), value)
	if err != nil {
		t.Fatalf("set %s to its own value %s: %v", joinPath(e.path), value, err)
	}
	if !bytes.Equal(next.Text, file.Text) {
		t.Fatalf("set %s to its own value %s: the text became\n%s", joinPath(e.path), value, next.Text)
	}
}

// holdValue finds a value in an edited text, unless the old one had the table
// as something else and so could not take it.
func holdValue(t *testing.T, file *File, path, value string) {
	t.Helper()
	if file.doc == nil {
		return
	}
	if got, ok := file.Get(path); !ok || got != value {
		t.Fatalf("after Set %s is %q, %v in\n%s", path, got, ok, file.Text)
	}
}
