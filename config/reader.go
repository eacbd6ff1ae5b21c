package config

import (
	"fmt"
	"slices"
	"strings"
)

// reader puts a document into a Config, by the schema.
type reader struct {
	doc    *document
	config *Config
	faults []fault
	broken []span // tables with a fault in their header: their keys would only repeat it
}

func (r *reader) read() {
	for i, h := range r.doc.headers {
		before := len(r.faults)
		r.header(h)
		if len(r.faults) > before {
			r.broken = append(r.broken, span{h.at.from, r.doc.endOfTable(i)})
		}
	}
	for _, e := range r.doc.entries {
		if !slices.ContainsFunc(r.broken, func(s span) bool { return s.from < e.key.from && e.key.from < s.to }) {
			r.entry(e)
		}
	}
	if len(r.faults) == 0 {
		r.missing()
	}
}

func (r *reader) fault(at int, what, hint string) {
	r.faults = append(r.faults, fault{at: at, what: what, hint: hint})
}

// header holds a [table] against the schema, so that a misspelt one is found
// even when it is empty; an entry of a named table begins to be with it.
func (r *reader) header(h header) {
	name := joinPath(h.path)
	if with, late := comesWith(h.path); late {
		r.fault(h.at.from, "this release does not serve ["+name+"] yet", "it comes with "+with+": take it out")
		return
	}
	for _, s := range schema {
		if s.named && len(h.path) == 2 && h.path[0] == s.path {
			r.begin(s, h)
			return
		}
		if s.isTable(h.path) {
			return
		}
	}
	r.fault(h.at.from, "unknown table ["+name+"]", tableHint(h.path))
}

// tableHint says what an unknown table was perhaps meant to be.
func tableHint(path []string) string {
	if near := nearest(path[0], tableNames()); near != "" && near != path[0] {
		return "did you mean [" + joinPath(append([]string{near}, path[1:]...)) + "]?"
	}
	var below []string
	for _, s := range schema {
		if s.named && s.path == path[0] {
			return "write key = value below [" + joinPath(path[:min(2, len(path))]) + "]"
		}
		for _, k := range s.keys {
			if table, _, ok := strings.Cut(k.name, "."); ok && s.path == path[0] {
				below = append(below, s.path+"."+table)
			}
		}
	}
	if near := nearest(joinPath(path), below); near != "" {
		return "did you mean [" + near + "]?"
	}
	return "the tables are " + strings.Join(tableNames(), ", ")
}

// endOfTable is where the next header stands.
func (d *document) endOfTable(i int) int {
	if i+1 < len(d.headers) {
		return d.headers[i+1].at.from
	}
	return len(d.text)
}

// begin makes the entry that a header names, so that order and presence are
// those of the file. Any key of it will do: place makes what is not there.
func (r *reader) begin(s section, h header) {
	if name, f := entryName(s, h.path[1], h.at.from); f != nil {
		r.faults = append(r.faults, *f)
	} else {
		s.keys[0].place(r.config, name)
	}
}

// entryName is the name of an entry of a named section, in the form in which
// the Config has it.
func entryName(s section, name string, at int) (string, *fault) {
	if s.path == "domain" {
		domain, err := DomainName(name)
		if err != nil || !strings.Contains(domain, ".") && domain != "localhost" {
			return "", &fault{at: at, what: quote(name) + " is no domain", hint: `write [domain."example.com"]`}
		}
		return domain, nil
	}
	if !bare(name) {
		return "", &fault{at: at, what: quote(name) + " is no good name", hint: "use letters, digits, - and _"}
	}
	return name, nil
}

// isTable says whether path is the section, or a table that its keys live in.
func (s section) isTable(path []string) bool {
	own := sectionPath(s.path)
	if s.named {
		if len(path) == 0 || path[0] != s.path {
			return false
		}
		return len(path) == 1 || len(path) > 2 && s.holds(path[2:])
	}
	if slices.Equal(path, own) {
		return true
	}
	if len(path) <= len(own) || !slices.Equal(path[:len(own)], own) {
		return false
	}
	return s.holds(path[len(own):])
}

// holds says whether path, below the section or an entry of it, is a table that
// keys live in.
func (s section) holds(path []string) bool {
	table := strings.Join(path, ".")
	return slices.ContainsFunc(s.keys, func(k key) bool {
		return strings.HasPrefix(k.name, table+".") || k.table && k.name == table
	})
}

func sectionPath(path string) []string {
	if path == "" {
		return nil
	}
	return []string{path}
}

func tableNames() (names []string) {
	for _, s := range schema {
		if s.path != "" {
			names = append(names, s.path)
		}
	}
	return names
}

// entry reads one key.
func (r *reader) entry(e entry) {
	if with, late := comesWith(e.path); late {
		r.fault(e.key.from, "this release does not serve "+joinPath(e.path)+" yet", "it comes with "+with+": take it out")
		return
	}
	k, name, element, f := r.find(e)
	if f != nil {
		r.faults = append(r.faults, *f)
		return
	}
	to := k.place(r.config, name)
	if element != "" {
		r.element(k, element, to, e)
		return
	}
	if f := set(to, e.value); f != nil {
		if k.instead != "" && f.hint == "write "+anyAddrPort {
			f.hint = "write " + k.instead
		}
		r.faults = append(r.faults, *f)
		return
	}
	if k.within != nil {
		if what, hint := k.within(to); what != "" {
			r.fault(e.value.at.from, what, hint)
		}
	}
}

// element reads one value of a table of names.
func (r *reader) element(k key, name string, to any, e entry) {
	if k.element != nil {
		if what, hint := k.element(name); what != "" {
			r.fault(e.key.from, what, hint)
			return
		}
	}
	if f := setElement(to, name, e.value); f != nil {
		r.faults = append(r.faults, *f)
		return
	}
	if k.lines != nil {
		if what, hint := k.lines(name, (*to.(*map[string][]string))[name]); what != "" {
			r.fault(e.value.at.from, what, hint)
		}
	}
}

// find is the key of the schema for an entry, the name of the section's entry
// that it is in, and its own name where the key is a table of names.
func (r *reader) find(e entry) (k key, name, element string, f *fault) {
	for _, s := range schema {
		rest, name, ok := s.below(e.path)
		if !ok {
			continue
		}
		for _, k := range s.keys {
			element, of := strings.CutPrefix(rest, k.name+".")
			if k.name != rest && !(k.table && of) {
				continue
			}
			if !of {
				element = ""
			}
			if s.named {
				name, f = entryName(s, name, e.key.from)
			}
			return k, name, element, f
		}
	}
	return key{}, "", "", &fault{at: e.key.from, what: "unknown key " + joinPath(e.path), hint: suggest(e)}
}

// below cuts the path of an entry into the name of a named section's entry and
// the key that is left.
func (s section) below(path []string) (rest, name string, ok bool) {
	own := sectionPath(s.path)
	if len(path) <= len(own) || !slices.Equal(path[:len(own)], own) {
		return "", "", false
	}
	path = path[len(own):]
	if s.named {
		if len(path) < 2 {
			return "", "", false
		}
		name, path = path[0], path[1:]
	}
	return strings.Join(path, "."), name, true
}

// comesWith says whether path is known, but not served by this release.
func comesWith(path []string) (with string, late bool) {
	for _, l := range later {
		want := strings.Split(l.path, ".")
		if len(path) < len(want) {
			continue
		}
		fits := true
		for i, w := range want {
			fits = fits && (w == "*" || w == path[i])
		}
		if fits {
			return l.with, true
		}
	}
	return "", false
}

// missing tells of what a file cannot do without.
func (r *reader) missing() {
	for _, s := range schema {
		for _, k := range s.keys {
			if !k.must {
				continue
			}
			for _, at := range r.entriesOf(s) {
				path := append(at, strings.Split(k.name, ".")...)
				if !r.doc.has(path) {
					r.fault(r.doc.place(path), joinPath(path)+" is missing", fmt.Sprintf("write %s = %s", k.name, example(k)))
				}
			}
		}
	}
}

// entriesOf is the tables of a section that the file has: itself, or each of
// its names as the file writes them.
func (r *reader) entriesOf(s section) (paths [][]string) {
	if !s.named {
		return [][]string{sectionPath(s.path)}
	}
	add := func(path []string) {
		if len(path) >= 2 && path[0] == s.path && !slices.ContainsFunc(paths, func(p []string) bool { return p[1] == path[1] }) {
			paths = append(paths, path[:2:2])
		}
	}
	for _, h := range r.doc.headers {
		add(h.path)
	}
	for _, e := range r.doc.entries {
		add(e.path)
	}
	return paths
}

func (d *document) has(path []string) bool {
	return slices.ContainsFunc(d.entries, func(e entry) bool { return slices.Equal(e.path, path) })
}

func example(k key) string {
	return map[string]string{
		"hostname": `"mx1.example.net"`, "url": `"smtp://mail.example.com:25"`,
		"backends": `["office"]`, "target": `"tls://collector.example.net:6514"`,
	}[k.name]
}
