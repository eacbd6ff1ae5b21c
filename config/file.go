package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// File is a configuration file: its text, and where everything stands in it.
type File struct {
	Path string // as problems name it
	Text []byte

	doc *document
}

// Read reads the file at path and takes it apart; see Parse.
func Read(path string) (*File, Config, Problems, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, Config{}, nil, fmt.Errorf("read the configuration: %w (name another file with -c)", err)
	}
	f, c, problems := Parse(path, text)
	return f, c, problems, nil
}

// Parse takes a text apart and reads it. The Config is whole only when the
// problems are not Bad.
func Parse(path string, text []byte) (*File, Config, Problems) {
	text = withoutMark(text)
	f := &File{Path: path, Text: text}
	doc, faults := parse(text)
	f.doc = doc
	c := Default()
	if len(faults) == 0 {
		r := reader{doc: doc, config: &c}
		r.read()
		faults = r.faults
		if len(faults) == 0 {
			faults = check(doc, &c)
		}
	}
	return f, c, f.problems(faults)
}

func (f *File) problems(faults []fault) Problems {
	var ps Problems
	for _, ft := range faults {
		p := Problem{File: f.Path, What: ft.what, Hint: ft.hint, Warning: ft.warning}
		p.Line, p.Col = position(f.Text, ft.at)
		ps = append(ps, p)
	}
	ps.Sort()
	return ps
}

// Problem is one that somebody else found with the value at a path such as
// backend.office.url. One that the file leaves out is placed at its table, or
// at the beginning.
func (f *File) Problem(path, what, hint string) Problem {
	return f.problems([]fault{{at: f.doc.place(splitPath(path)), what: what, hint: hint}})[0]
}

// Warning is a Problem with which the file can be used.
func (f *File) Warning(path, what, hint string) Problem {
	p := f.Problem(path, what, hint)
	p.Warning = true
	return p
}

// place is where the value of path stands, else its key's table, else 0.
func (d *document) place(path []string) int {
	if d == nil {
		return 0
	}
	for n := len(path); n > 0; n-- {
		for _, e := range d.entries {
			if slices.Equal(e.path[:min(n, len(e.path))], path[:n]) {
				if n == len(path) {
					return e.value.at.from
				}
				return e.key.from
			}
		}
		for _, h := range d.headers {
			if slices.Equal(h.path, path[:n]) {
				return h.at.from
			}
		}
	}
	return 0
}

// splitPath is the parts of a path as joinPath writes it.
func splitPath(path string) (parts []string) {
	for path != "" {
		var part string
		if rest, quoted := strings.CutPrefix(path, `"`); quoted {
			part, path, _ = strings.Cut(rest, `"`)
			path = strings.TrimPrefix(path, ".")
		} else {
			part, path, _ = strings.Cut(path, ".")
		}
		parts = append(parts, part)
	}
	return parts
}

// Path writes the path of a key in a named table: Path("domain", "example.com",
// "backends") is domain."example.com".backends.
func Path(parts ...string) string { return joinPath(parts) }
