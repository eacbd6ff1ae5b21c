package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Set returns the file with the key at path set to value, written as TOML (a
// text with its quotes). Only the bytes of that value change: comments, order
// and blank lines stay. A key that is not there goes to the end of its table, a
// table that is not there to the end of the file. The problems are those of
// the new text; nothing is written to disk.
func (f *File) Set(path, value string) (*File, Config, Problems, error) {
	if f.doc == nil {
		return nil, Config{}, nil, errBroken
	}
	text, err := f.doc.set(splitPath(path), value)
	if err != nil {
		return nil, Config{}, nil, err
	}
	next, c, problems := Parse(f.Path, text)
	return next, c, problems, nil
}

// Delete returns the file without the key or the table at path. The comment
// behind a value goes with it; comments above stay.
func (f *File) Delete(path string) (*File, Config, Problems, error) {
	if f.doc == nil {
		return nil, Config{}, nil, errBroken
	}
	text, err := f.doc.delete(splitPath(path))
	if err != nil {
		return nil, Config{}, nil, err
	}
	next, c, problems := Parse(f.Path, text)
	return next, c, problems, nil
}

// errBroken is a text in which nothing has a place.
var errBroken = errors.New("the file is not TOML: mend it by hand, weir check says where")

// Get is the text of the value at path, as the file has it.
func (f *File) Get(path string) (value string, ok bool) {
	if f.doc == nil {
		return "", false
	}
	parts := splitPath(path)
	for _, e := range f.doc.entries {
		if slices.Equal(e.path, parts) {
			return string(f.Text[e.value.at.from:e.value.at.to]), true
		}
	}
	return "", false
}

func (d *document) set(path []string, value string) ([]byte, error) {
	if err := oneValue(value); err != nil {
		return nil, err
	}
	for _, e := range d.entries {
		if slices.Equal(e.path, path) {
			return d.splice(e.value.at, value), nil
		}
	}
	if t, ok := d.inlineTable(path); ok {
		return d.setInline(t, path, value), nil
	}
	home := homeTable(path)
	for i := len(path) - 1; i >= len(home); i-- {
		if at, ok := d.tableEnd(path[:i]); ok {
			return d.insertLine(at, joinPath(path[i:])+" = "+value), nil
		}
	}
	if e, ok := d.dotted(home); ok {
		return d.insertLine(d.endOfLine(e.whole.to), joinPath(path[len(e.header(d)):])+" = "+value), nil
	}
	table := "\n[" + joinPath(home) + "]\n" + joinPath(path[len(home):]) + " = " + value
	return d.insertLine(len(d.text), table), nil
}

// homeTable is the [table] that the key at path belongs into.
func homeTable(path []string) []string {
	for _, s := range schema {
		switch {
		case s.path == "" || s.path != path[0] || len(path) < 2:
		case s.named && len(path) > 2:
			return path[:2]
		case !s.named:
			return path[:1]
		}
	}
	return nil
}

// dotted finds a key of table that is written under a header above the table's
// own, or under none.
func (d *document) dotted(table []string) (last entry, ok bool) {
	for _, e := range d.entries {
		below := len(e.path) > len(table) && slices.Equal(e.path[:len(table)], table)
		if e.inline == 0 && below && len(e.header(d)) <= len(table) {
			last, ok = e, true
		}
	}
	return last, ok
}

// header is the path of the header that e stands under.
func (e entry) header(d *document) (under []string) {
	for _, h := range d.headers {
		if h.at.from < e.whole.from {
			under = h.path
		}
	}
	return under
}

// oneValue holds that value is one value of TOML, so that a splice cannot bring
// in keys or tables of its own.
func oneValue(value string) error {
	var p unstable.Parser
	p.Reset([]byte("v = " + value + "\n"))
	n := 0
	for p.NextExpression() {
		if n++; n > 1 || p.Expression().Kind != unstable.KeyValue {
			return fmt.Errorf("%s is more than one value: write a single one", value)
		}
	}
	if p.Error() != nil || n == 0 || strings.Contains(value, "\n") && strings.Contains(value, "#") {
		return fmt.Errorf("%s is no value of TOML: write a text in quotes, a number, true, false or […]", value)
	}
	return nil
}

func (d *document) splice(at span, with string) []byte {
	return slices.Concat(d.text[:at.from], []byte(with), d.text[at.to:])
}

// inlineTable finds the { … } in which a key at path has to go: a table that is
// written inline cannot be added to from outside.
func (d *document) inlineTable(path []string) (entry, bool) {
	var last entry
	found := false
	for _, e := range d.entries {
		if n := e.inline; n > 0 && len(path) > n && slices.Equal(e.path[:n], path[:n]) {
			last, found = e, true
		}
	}
	return last, found
}

func (d *document) setInline(last entry, path []string, value string) []byte {
	return d.splice(span{last.whole.to, last.whole.to}, ", "+joinPath(path[last.inline:])+" = "+value)
}

// tableEnd is where the last line of a table ends: that of its last key, else
// that of its header. The top of the file is a table that is always there.
func (d *document) tableEnd(table []string) (at int, ok bool) {
	from, to := 0, len(d.text)
	if len(table) > 0 {
		i := slices.IndexFunc(d.headers, func(h header) bool { return slices.Equal(h.path, table) })
		if i < 0 {
			return 0, false
		}
		from = d.headers[i].at.to
		at = d.endOfLine(from)
	}
	for _, h := range d.headers {
		if h.at.from > from {
			to = min(to, h.at.from)
		}
	}
	for _, e := range d.entries {
		if e.whole.from >= from && e.whole.from < to {
			at = d.endOfLine(e.whole.to)
		}
	}
	return at, true
}

// endOfLine is the offset behind the end of the line in which at lies.
func (d *document) endOfLine(at int) int {
	if i := bytes.IndexByte(d.text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(d.text)
}

// insertLine puts a line at an offset where a line begins.
func (d *document) insertLine(at int, line string) []byte {
	with := line + "\n"
	if at > 0 && d.text[at-1] != '\n' {
		with = "\n" + with
	}
	return d.splice(span{at, at}, with)
}

// delete takes out a key, or a table with all its keys.
func (d *document) delete(path []string) ([]byte, error) {
	for _, e := range d.entries {
		if !slices.Equal(e.path, path) {
			continue
		}
		if e.inline > 0 {
			return d.splice(d.withComma(e.whole), ""), nil
		}
		return d.splice(d.lines(e.whole), ""), nil
	}
	for i, h := range d.headers {
		if slices.Equal(h.path, path) {
			end := len(d.text)
			if i+1 < len(d.headers) {
				end = d.lines(d.headers[i+1].at).from
			}
			return d.splice(span{d.lines(h.at).from, end}, ""), nil
		}
	}
	return nil, fmt.Errorf("the file has no %s", joinPath(path))
}

// lines widens a span to whole lines.
func (d *document) lines(s span) span {
	return span{bytes.LastIndexByte(d.text[:s.from], '\n') + 1, d.endOfLine(s.to)}
}

// withComma widens an entry of an inline table by the comma that parts it from
// the next one, else from the last.
func (d *document) withComma(s span) span {
	if rest := bytes.TrimLeft(d.text[s.to:], " \t"); bytes.HasPrefix(rest, []byte(",")) {
		rest = bytes.TrimLeft(rest[1:], " \t")
		return span{s.from, len(d.text) - len(rest)}
	}
	before := bytes.TrimRight(d.text[:s.from], " \t")
	if bytes.HasSuffix(before, []byte(",")) {
		s.from = len(before) - 1
	}
	return s
}
