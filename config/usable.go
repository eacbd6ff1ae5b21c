package config

import (
	"bytes"
	"slices"
	"strings"
)

// Usable reads what can be used of a text in spite of its mistakes, for a
// machine that has nobody at hand to mend it: each mistake takes out its key,
// or the table whose name it is in, until none is left. Else names what only
// the machine can tell, nil where nobody asks it. The problems are those that
// something was left out for, at their places in the text; hostname is taken
// where the text has none. ok is false when too little is left: no domain; of
// the Config only Hostname, DNS and System count then.
//
// What is left never acts harder than the whole would: where a key is lost that
// may have held something back, the Config only observes.
func Usable(path string, text []byte, hostname string, more func(*File, Config) Problems) (c Config, left Problems, ok bool) {
	text = withoutMark(text)
	lines := 0 // that the text has grown by, at its top
	var gone [][]string
	for range maxMistakes {
		f, c, problems := Parse(path, text)
		if f.doc != nil && !f.doc.has([]string{"hostname"}) {
			p := Problem{File: path, Line: 1, Col: 1, What: "hostname is missing: " + hostname + " is taken", Hint: `write hostname = "mx1.example.net"`}
			left = append(left, p)
			text, lines = slices.Concat([]byte("hostname = "+quote(hostname)+"\n"), text), 1
			continue
		}
		if !problems.Bad() && more != nil {
			problems = append(problems, more(f, c)...)
		}
		i := slices.IndexFunc(problems, func(p Problem) bool { return !p.Warning })
		if i < 0 {
			c.Partial = len(left) > 0
			for _, lost := range gone {
				c.ease(lost)
			}
			return c, left, true
		}
		lost, next := f.without(problems[i])
		if next == nil {
			left = append(left, problems[i])
			if len(c.Domains) > 0 || len(problems.Err().(Problems)) > 1 {
				break
			}
			return c, left, false
		}
		gone = append(gone, lost)
		text = next
		problems[i].Line -= lines
		if !slices.ContainsFunc(left, func(p Problem) bool { return p.What == problems[i].What }) { // a table may go key by key
			left = append(left, problems[i])
		}
	}
	c = Default()
	c.Hostname = hostname
	return c, left, false
}

// maxMistakes bounds how often something is taken out: a text with more of them
// was meant to be something else.
const maxMistakes = 200

// lenient are the keys and tables without which judgement may be harder than the
// file has it; a domain that is lost as a whole is not judged at all.
var lenient = [][]string{
	{"observe"}, {"firewall"}, {"harvest"}, {"checks"}, {"dnsbl"}, {"providers"}, {"greylist"},
	{"smtp", "forwarders"}, sizeOfAll, {"domain", "*", "*"},
}

var sizeOfAll = []string{"smtp", "max_message_size"}

// held says whether the key or the table at path may have held judgement back,
// or may be a misspelt one that did; nil is one that could not be read. What no
// key of this release is like is one of another, and says nothing here.
func held(path []string) bool {
	if len(path) == 0 || path[len(path)-1] == "observe" {
		return true
	}
	return slices.ContainsFunc(lenient, func(k []string) bool {
		names := tableNames()
		for _, top := range schema[0].keys {
			names = append(names, top.name)
		}
		if nearest(path[0], names) != k[0] {
			return false
		}
		return len(k) == 1 || len(path) == 1 || k[1] == "*" || nearest(path[1], namesIn(k[0])) == k[1]
	})
}

// namesIn are the keys of a table.
func namesIn(table string) (names []string) {
	for _, s := range schema {
		for _, k := range s.keys {
			if s.path == table {
				names = append(names, k.name)
			}
		}
	}
	return names
}

// ease makes up for what is lost: judgement only observes, and where it may have
// said how large messages may be there is all the room there is, since one that
// is too large is refused for good. What may have kept mail from going on in
// clear keeps it so: mail that waits is better than mail that was read.
func (c *Config) ease(lost []string) {
	const most = 2 * GiB
	if n := min(len(lost), len(sizeOfAll)); slices.Equal(lost[:n], sizeOfAll[:n]) {
		c.SMTP.MaxMessageSize = most
	}
	if len(lost) > 1 && lost[0] == "domain" {
		name, _ := DomainName(lost[1])
		i := slices.IndexFunc(c.Domains, func(d Domain) bool { return d.Name == name })
		if i < 0 {
			return // nobody judges what is for it
		}
		if lost[len(lost)-1] == sizeOfAll[1] {
			c.Domains[i].MaxMessageSize = most
		}
	}
	if len(lost) > 2 && lost[0] == "backend" && distance(strings.ToLower(lost[2]), "tls") <= 2 {
		if i := slices.IndexFunc(c.Backends, func(b Backend) bool { return b.Name == lost[1] }); i >= 0 {
			c.Backends[i].TLS = "required"
		}
	}
	c.Observe = c.Observe || held(lost)
}

// without is the text with blanks in the place of what a problem is about, so
// that everything else stays where it was, and the path of what is gone. The
// text is nil where nothing of it is to blame.
func (f *File) without(p Problem) (lost []string, text []byte) {
	at := f.offset(p)
	if f.doc == nil {
		return nil, blank(f.Text, badLines(f.Text, at))
	}
	for _, e := range f.doc.entries {
		if e.whole.from <= at && at < e.whole.to {
			gone := e.whole
			if e.inline > 0 {
				gone = f.doc.withComma(e.whole)
			}
			return e.path, blank(f.Text, gone)
		}
	}
	for i, h := range f.doc.headers {
		if s := f.doc.lines(h.at); s.from <= at && at < s.to {
			end := len(f.Text)
			if i+1 < len(f.doc.headers) {
				end = f.doc.lines(f.doc.headers[i+1].at).from
			}
			return h.path, blank(f.Text, span{s.from, end})
		}
	}
	return nil, nil
}

// offset is where a problem stands; its column counts characters.
func (f *File) offset(p Problem) int {
	at := offsetOf(f.Text, p.Line, 1)
	for i := range string(lineAt(f.Text, at)) {
		if p.Col--; p.Col == 0 {
			return at + i
		}
	}
	return at + len(lineAt(f.Text, at))
}

// badLines are those that a fault of syntax at an offset is in: where that is
// the name of a table, all up to the next, since its keys would be read as
// those of the table before.
func badLines(text []byte, at int) span {
	at = min(at, len(bytes.TrimRight(text, " \t\r\n"))) // the end of the text is no line
	s := span{bytes.LastIndexByte(text[:at], '\n') + 1, 0}
	s.to = s.from + len(lineAt(text, s.from))
	if !isHeader(text[s.from:s.to]) {
		return s
	}
	for s.to < len(text) {
		next := lineAt(text, s.to+1)
		if isHeader(next) {
			break
		}
		s.to += 1 + len(next)
	}
	return span{s.from, min(s.to, len(text))}
}

func isHeader(line []byte) bool { return strings.HasPrefix(strings.TrimSpace(string(line)), "[") }

// blank puts blanks in the place of a span, but for its line ends. It is nil
// when there are only blanks already.
func blank(text []byte, s span) []byte {
	if len(bytes.TrimSpace(text[s.from:s.to])) == 0 {
		return nil
	}
	gone := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return r
		}
		return ' '
	}, text[s.from:s.to])
	return slices.Concat(text[:s.from], gone, text[s.to:])
}
