package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// span is a range of bytes in the text.
type span struct{ from, to int }

// value is a value as it stands in the text.
type value struct {
	kind  unstable.Kind
	text  string // the content of a string, else the text as it stands
	at    span
	items []value // of an array
	table []entry // of an inline table
}

// entry is one key = value. Inline tables and dotted keys are flattened: the
// path is always whole.
type entry struct {
	path  []string
	key   span // the last part of the key
	whole span // key = value
	value value
	// inline is how long the path of the { … } is that it stands in, 0 where it
	// has a line of its own.
	inline int
}

// header is one [table].
type header struct {
	path  []string
	at    span // of the name
	array bool // [[table]]
}

// document is a text taken apart, in order.
type document struct {
	text    []byte
	entries []entry
	headers []header
}

// maxText bounds what is read. The parser counts with 32 bits, and no
// configuration is a megabyte long.
const maxText = 1 << 20

// fault is something wrong at an offset of the text.
type fault struct {
	at         int
	what, hint string
	warning    bool
}

// withoutMark leaves the byte order mark out that editors of Windows put before
// UTF-8: it is none of the first key.
func withoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) }

// isUTF16 says whether a text begins as editors of Windows begin what they call
// Unicode.
func isUTF16(text []byte) bool {
	return bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff"))
}

// parse takes the text apart; there is no document when it is no good TOML. It
// stops at the first fault of syntax: what follows one means nothing.
func parse(text []byte) (*document, []fault) {
	if len(text) > maxText {
		return nil, []fault{{what: "the file is larger than 1 MiB", hint: "lists of addresses are read by weir allow and weir ban -, they do not belong here"}}
	}
	if isUTF16(text) {
		return nil, []fault{{what: "the file is in UTF-16", hint: "save it as UTF-8"}}
	}
	d := &document{text: text}
	var p unstable.Parser
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			h := header{array: n.Kind == unstable.ArrayTable}
			h.path, h.at = d.keyOf(n.Key())
			d.headers = append(d.headers, h)
			table = h.path
		case unstable.KeyValue:
			d.entries = append(d.entries, d.entryOf(n, table, 0)...)
		}
	}
	if err := p.Error(); err != nil {
		return nil, []fault{syntaxFault(&p, err)}
	}
	for _, find := range []func() []fault{d.lists, d.duplicates, d.libraryFault} {
		if faults := find(); len(faults) > 0 {
			return nil, faults
		}
	}
	return d, nil
}

// keyOf reads a dotted key and where its last part stands.
func (d *document) keyOf(it unstable.Iterator) (path []string, at span) {
	for it.Next() {
		n := it.Node()
		path = append(path, string(n.Data))
		at = spanOf(n.Raw)
	}
	return path, at
}

func spanOf(r unstable.Range) span { return span{int(r.Offset), int(r.Offset + r.Length)} }

// entryOf reads one key = value, and flattens the tables that are written
// inline. An empty inline table stays an entry, so that nothing goes unseen.
func (d *document) entryOf(n *unstable.Node, table []string, inline int) []entry {
	path, key := d.keyOf(n.Key())
	e := entry{path: join(table, path...), key: key, whole: d.trim(spanOf(n.Raw)), inline: inline}
	e.value = d.valueOf(n.Value(), e.path)
	if len(path) > 0 && (n.Value().Kind == unstable.Array || n.Value().Kind == unstable.InlineTable) {
		e.value.at = d.afterEqual(key, e.whole)
	}
	if e.value.kind == unstable.InlineTable && len(e.value.table) > 0 {
		return e.value.table
	}
	return []entry{e}
}

// trim takes the white space off the end: the parser's range of a key and its
// value may hold some.
func (d *document) trim(s span) span {
	for s.to > s.from && strings.IndexByte(" \t\r\n", d.text[s.to-1]) >= 0 {
		s.to--
	}
	return s
}

// afterEqual is where the value of a key stands, for those whose place the
// parser does not tell. Behind the last part of a key come only blanks and =.
func (d *document) afterEqual(key, whole span) span {
	at := key.to
	for at < whole.to && strings.IndexByte(" \t=", d.text[at]) >= 0 {
		at++
	}
	return span{at, whole.to}
}

// valueOf copies a value out of the parser, whose nodes do not last.
func (d *document) valueOf(n *unstable.Node, path []string) value {
	v := value{kind: n.Kind, at: spanOf(n.Raw)}
	switch n.Kind {
	case unstable.String:
		v.text = string(n.Data)
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			if it.Node().Kind != unstable.Comment {
				v.items = append(v.items, d.valueOf(it.Node(), nil))
			}
		}
	case unstable.InlineTable:
		for it := n.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				v.table = append(v.table, d.entryOf(it.Node(), path, max(len(path), 1))...)
			}
		}
	default:
		v.text = string(d.text[v.at.from:v.at.to])
	}
	return v
}

// duplicates finds keys and tables that are there twice: TOML forbids both,
// and the parser does not look.
func (d *document) duplicates() (faults []fault) {
	first := map[string]int{}
	twice := func(what string, path []string, at int) {
		name := what + joinPath(path)
		if before, there := first[name]; there {
			line, _ := position(d.text, before)
			faults = append(faults, fault{at: at, what: name + " is there twice",
				hint: fmt.Sprintf("the first is on line %d: keep one of them", line)})
			return
		}
		first[name] = at
	}
	for _, h := range d.headers {
		twice("table ", h.path, h.at.from)
	}
	for _, e := range d.entries {
		twice("key ", e.path, e.key.from)
	}
	return faults
}

// lists finds [[lists]] of tables. There are none in the schema: every table
// has a name, so that every value has a path.
func (d *document) lists() (faults []fault) {
	for _, h := range d.headers {
		if h.array {
			faults = append(faults, fault{at: h.at.from, what: "[[" + joinPath(h.path) + "]] is a list of tables",
				hint: "every table here has a name of its own: write [backend.name], or certificates = [{ … }] on one line"})
		}
	}
	return faults
}

// libraryFault has the library read the text as well: it knows the rarer rules
// of TOML (a table that is a value elsewhere, an impossible date).
func (d *document) libraryFault() []fault {
	var into map[string]any
	err := toml.Unmarshal(d.text, &into)
	if err == nil {
		return nil
	}
	f := fault{what: "not TOML: " + strings.TrimPrefix(err.Error(), "toml: "), hint: "see https://toml.io"}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		row, col := de.Position()
		f.at = offsetOf(d.text, row, col)
	}
	return []fault{f}
}

// offsetOf is the byte at a line and a column in bytes.
func offsetOf(text []byte, row, col int) int {
	at := 0
	for ; row > 1; row-- {
		i := bytes.IndexByte(text[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return min(at+max(col-1, 0), len(text))
}

// join makes a new path, so that no two share memory.
func join(table []string, path ...string) []string {
	return append(append(make([]string, 0, len(table)+len(path)), table...), path...)
}

// joinPath writes a path as TOML does: parts that need it are quoted.
func joinPath(path []string) string {
	var b strings.Builder
	for i, part := range path {
		if i > 0 {
			b.WriteByte('.')
		}
		if bare(part) {
			b.WriteString(part)
		} else {
			b.WriteString(quote(part))
		}
	}
	return b.String()
}

func bare(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return false
		}
	}
	return s != ""
}

// quote writes a basic string of TOML, which escapes like JSON but for the
// control character DEL.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
