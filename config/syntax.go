package config

import (
	"bytes"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// syntaxFault puts a fault of syntax into our words. The parser's message says
// what it expected; the line says what the operator had in mind.
func syntaxFault(p *unstable.Parser, err error) fault {
	f := fault{what: "not TOML: " + err.Error(), hint: "see https://toml.io"}
	var pe *unstable.ParserError
	if !errors.As(err, &pe) {
		return f
	}
	f.at = int(p.Range(pe.Highlight).Offset)
	text := p.Data()
	key, val, hasEqual := bytes.Cut(lineAt(text, f.at), []byte("="))
	switch v := strings.TrimSpace(string(val)); {
	case bytes.ContainsAny(text[f.at:min(f.at+4, len(text))], "“”„‘’"), strings.ContainsAny(v, "“”„‘’"):
		f.what, f.hint = "typographic quotes", `write plain ones: "`
	case strings.Contains(pe.Message, "cannot have new lines"), strings.Contains(pe.Message, "not terminated"):
		f.what, f.hint = "a string does not end", `put a " at its end`
	case strings.HasPrefix(strings.TrimSpace(string(key)), "["):
		f.what, f.hint = "a table's name is malformed", `write [name], or [name."part.with.dots"]`
	case hasEqual && strings.Contains(pe.Message, "at start of value") && beforeEqual(text, f.at):
		f.what, f.hint = "a list or table above does not end", "put a ] or } behind its last value"
	case !hasEqual && pe.Message == "expected '=' after key":
		f.what, f.hint = "a key without a value", "write key = value"
	case hasEqual && v == "":
		f.what, f.hint = "a value is missing", "write it behind the ="
	case hasEqual && unquoted(v):
		f.what, f.hint = wordFault(v)
	}
	return f
}

// beforeEqual says whether an offset lies in the key of its line.
func beforeEqual(text []byte, at int) bool {
	from := bytes.LastIndexByte(text[:min(at, len(text))], '\n') + 1
	return !bytes.Contains(text[from:at], []byte("="))
}

// lineAt is the line in which an offset lies, without its end.
func lineAt(text []byte, at int) []byte {
	at = min(at, len(text))
	from := bytes.LastIndexByte(text[:at], '\n') + 1
	to := bytes.IndexByte(text[from:], '\n')
	if to < 0 {
		return text[from:]
	}
	return text[from : from+to]
}

// unquoted says whether v looks like a word that lacks its quotes.
func unquoted(v string) bool {
	word, _, _ := strings.Cut(v, " ")
	return word != "" && strings.IndexByte(`"'[{`, word[0]) < 0
}

func wordFault(v string) (what, hint string) {
	word, _, _ := strings.Cut(v, " ")
	switch strings.ToLower(word) {
	case "yes", "on", "enable", "enabled", "true":
		return word + " is no value", "write true"
	case "no", "off", "disable", "disabled", "false":
		return word + " is no value", "write false, or \"" + word + "\" where a word is meant"
	}
	return "a text stands without quotes", "write " + quote(word)
}
