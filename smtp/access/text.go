package access

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Import says how lines are read that do not say themselves what they mean.
type Import struct {
	Of Kind // what names in a Postfix map are: RDNS (client), HELO, From or To
	// Why is the reason of lines that have none; where Reasons is set, lines that
	// are without one then are errors.
	Why     string
	Reasons bool
	As      Action // of lines that name a subject and nothing else; "": such are errors
}

// LineError is a line that is none.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Read reads lists as they are found in the field, a line an entry:
//
//	allow rdns:example.com to=jane@example.com until=2026-12-24T00:00:00Z by=root why=words to the end
//	192.0.2.0/24   REJECT  words               Postfix, cidr_table(5)
//	example.com    OK                          Postfix, access(5)
//	192.0.2.7                                  a plain list, see Import.As
//
// # begins a comment, and a line that begins with a blank goes on the one before.
// A line that says DUNNO says nothing. The errors are all LineErrors.
func (i Import) Read(in io.Reader) (entries []Entry, errs []error) {
	flush := func(n int, text string) {
		if text == "" {
			return
		}
		e, ok, err := i.line(text)
		if ok && e.Why == "" {
			if e.Why = i.Why; i.Why == "" && i.Reasons {
				err = fmt.Errorf(`%s %v has no reason, and entries need one that the next operator will understand: add --why "…"`, e.Action, e.Subject)
			}
		}
		if err != nil {
			errs = append(errs, &LineError{n, err})
		} else if ok {
			entries = append(entries, e)
		}
	}
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, 1<<20)
	first, whole, n := 0, "", 0
	for scan.Scan() {
		n++
		text := scan.Text()
		bare := strings.TrimSpace(text)
		switch {
		case bare == "" || bare[0] == '#':
		case whole != "" && unicode.IsSpace(rune(text[0])):
			whole += " " + bare
		default:
			flush(first, whole)
			first, whole = n, bare
		}
	}
	flush(first, whole)
	if err := scan.Err(); err != nil {
		errs = append(errs, &LineError{n + 1, err})
	}
	return entries, errs
}

// line reads one line; false: it says nothing.
func (i Import) line(text string) (e Entry, ok bool, err error) {
	word, rest := cutWord(text)
	if a := Action(strings.ToLower(word)); a == Allow || a == Block {
		e, err = ownLine(a, rest)
		return e, err == nil, err
	}
	if e.Subject, err = i.pattern(word); err != nil {
		return e, false, err
	}
	if rest, _, _ = strings.Cut(rest, "#"); strings.TrimSpace(rest) == "" {
		if e.Action = i.As; i.As == "" {
			err = fmt.Errorf("%s stands alone: say whether the list allows or blocks (--as)", word)
		}
		return e, err == nil, err
	}
	verb, why := cutWord(strings.TrimSpace(rest))
	e.Why = why
	e.Action, ok, err = verbOf(verb)
	return e, ok, err
}

func cutWord(s string) (word, rest string) {
	n := strings.IndexFunc(s, unicode.IsSpace)
	if n < 0 {
		return s, ""
	}
	return s[:n], strings.TrimSpace(s[n:])
}

// ownLine reads what Write wrote behind the action.
func ownLine(a Action, rest string) (e Entry, err error) {
	e.Action = a
	word, rest := cutWord(rest)
	if e.Subject, err = ParseSubject(word); err != nil {
		return e, err
	}
	for rest != "" && err == nil {
		if why, found := strings.CutPrefix(rest, "why="); found {
			e.Why = why
			break
		}
		word, rest = cutWord(rest)
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "to":
			e.To, err = Name(value)
		case "until":
			e.Until, err = time.Parse(time.RFC3339, value)
		case "since":
			e.Time, err = time.Parse(time.RFC3339, value)
		case "by":
			e.Author = value
		case "forgeable":
			e.Forgeable = value == "yes"
		default:
			err = fmt.Errorf("%q is neither to=, since=, until=, forgeable=, by= nor why=", word)
		}
	}
	return e, err
}

// verbOf is what an action of access(5) comes to; false: nothing.
func verbOf(verb string) (a Action, ok bool, err error) {
	switch v := strings.ToUpper(verb); {
	case v == "OK" || v == "PERMIT" || v == "RELAY":
		return Allow, true, nil
	case v == "REJECT" || len(v) == 3 && (v[0] == '4' || v[0] == '5'):
		return Block, true, nil
	case v == "DUNNO":
		return "", false, nil
	}
	return "", false, fmt.Errorf("%q is no action that the lists have: they allow (OK) or block (REJECT)", verb)
}

// pattern reads a key of access(5) or cidr_table(5).
func (i Import) pattern(s string) (Subject, error) {
	if p, ok := ParsePrefix(s); ok {
		return Subject{Kind: Address, Prefix: p}, nil
	}
	if p, ok := octets(s); ok {
		return Subject{Kind: Address, Prefix: p}, nil
	}
	if strings.ContainsAny(s, ":!/") {
		return ParseSubject(s)
	}
	of := i.Of
	if of == "" {
		of = RDNS
		if strings.Contains(s, "@") {
			of = From
		}
	}
	return ParseSubject(string(of) + ":" + strings.TrimPrefix(s, "@"))
}

// octets reads the first one to three of an IPv4 address, as access(5) has
// networks.
func octets(s string) (netip.Prefix, bool) {
	s = strings.TrimSuffix(s, ".")
	n := strings.Count(s, ".") + 1
	if n > 3 {
		return netip.Prefix{}, false
	}
	a, err := netip.ParseAddr(s + strings.Repeat(".0", 4-n))
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, 8*n), true
}

// Write writes entries as Read reads them, each on a line of its own.
func Write(out io.Writer, entries []Entry) error {
	w := bufio.NewWriter(out)
	for _, e := range entries {
		fmt.Fprintf(w, "%s %v", e.Action, e.Subject)
		for _, f := range []struct{ key, value string }{
			{"to", e.To}, {"since", moment(e.Time)}, {"until", moment(e.Until)}, {"forgeable", map[bool]string{true: "yes"}[e.Forgeable]}, {"by", strings.Join(strings.Fields(e.Author), "_")}, {"why", oneLine(e.Why)},
		} {
			if f.value != "" {
				fmt.Fprintf(w, " %s=%s", f.key, f.value)
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// WritePostfix writes the entries of a kind that are for all recipients as a map
// of Postfix: Address for cidr_table(5), any other for access(5). It keeps no
// times.
func WritePostfix(out io.Writer, entries []Entry, kind Kind) error {
	w := bufio.NewWriter(out)
	for _, e := range entries {
		if e.Subject.Kind != kind || e.To != "" {
			continue
		}
		name, verb := e.Subject.Name, "REJECT"
		if kind == Address {
			name = e.Subject.String()
		}
		if e.Action == Allow {
			verb = "OK"
		}
		fmt.Fprintf(w, "%s\t%s\n", name, verb)
	}
	return w.Flush()
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
