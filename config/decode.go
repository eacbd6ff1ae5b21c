package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// set puts the value v into the place that to points at, whose type says what
// may stand there. What is wrong comes back in words, with where it stands.
func set(to any, v value) *fault {
	switch to := to.(type) {
	case *bool:
		return setBool(to, v)
	case *int:
		return setInt(to, v)
	case *float64:
		return setFloat(to, v)
	case *string:
		return setString(to, v)
	case *time.Duration:
		return setText(to, v, ParseDuration, "a duration", `"90s", "48h" or "14d"`)
	case *Retention:
		return setText(to, v, ParseRetention, "a duration", `"48h", "30d" or "forever"`)
	case *Size:
		return setText(to, v, ParseSize, "a size", `"50MiB" or "4GiB"`)
	case *Recipients:
		return setText(to, v, parseRecipients, "a source of recipients", `"backend", "file:/path" or "any"`)
	case *[]string:
		return setList(to, v, setString)
	case *[]uint16:
		return setList(to, v, setPort)
	case *[]netip.Prefix:
		return setList(to, v, setPrefix)
	case *[]netip.AddrPort:
		return setList(to, v, setAddrPort)
	case *[]Certificate:
		return setList(to, v, setCertificate)
	case *map[string]string, *map[string]float64, *map[string][]string:
		if v.kind == unstable.InlineTable { // an empty one: what is in others, comes by itself
			return nil
		}
		return mismatch(v, "a table", "{ name = value, … }, or [a table] of its own")
	}
	panic(fmt.Sprintf("config: the schema has a %T, which nothing reads", to))
}

// setElement puts one value of a table of names into its place.
func setElement(to any, name string, v value) *fault {
	switch to := to.(type) {
	case *map[string]float64:
		var n float64
		if f := setFloat(&n, v); f != nil {
			return f
		}
		put(to, name, n)
		return nil
	case *map[string][]string:
		var list []string
		if f := setList(&list, v, setString); f != nil {
			return f
		}
		put(to, name, list)
		return nil
	case *map[string]string:
		text, f := setting(v)
		if f == nil {
			put(to, name, text)
		}
		return f
	}
	panic(fmt.Sprintf("config: the schema has a table of %T, which nothing reads", to))
}

func put[T any](to *map[string]T, name string, v T) {
	if *to == nil {
		*to = map[string]T{}
	}
	(*to)[name] = v
}

// setting is what is done about a check.
func setting(v value) (string, *fault) {
	const want, write = "what can be done about a check", `"off", "log", "defer", "reject" or a score such as 3`
	switch v.kind {
	case unstable.Integer, unstable.Float:
		var n float64
		if f := setFloat(&n, v); f != nil || n < -100 || n > 100 {
			return "", mismatch(v, want, write)
		}
		return strconv.FormatFloat(n, 'f', -1, 64), nil
	case unstable.String:
		if slices.Contains([]string{"off", "log", "defer", "reject"}, v.text) {
			return v.text, nil
		}
	}
	return "", mismatch(v, want, write)
}

// mismatch is a value of the wrong type.
func mismatch(v value, want, write string) *fault {
	is := v.text
	switch v.kind {
	case unstable.String:
		is = quote(v.text)
	case unstable.Array:
		is = "an array"
	case unstable.InlineTable:
		is = "a table"
	}
	return &fault{at: v.at.from, what: is + " is not " + want, hint: "write " + write}
}

func setBool(to *bool, v value) *fault {
	if v.kind != unstable.Bool {
		return mismatch(v, "true or false", "true or false, without quotes")
	}
	*to = v.text == "true"
	return nil
}

func setInt(to *int, v value) *fault {
	n, err := strconv.ParseInt(v.text, 0, 32)
	if v.kind != unstable.Integer || err != nil {
		return mismatch(v, "a whole number", "digits, without quotes")
	}
	*to = int(n)
	return nil
}

func setFloat(to *float64, v value) *fault {
	f, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
	if v.kind != unstable.Float && v.kind != unstable.Integer || err != nil || f != f {
		return mismatch(v, "a number", "a number such as 0.8, without quotes")
	}
	*to = f
	return nil
}

func setString(to *string, v value) *fault {
	if v.kind != unstable.String {
		return mismatch(v, "a text", "it in quotes")
	}
	*to = v.text
	return nil
}

// setText reads a value that stands in quotes and has a form of its own.
func setText[T any](to *T, v value, parse func(string) (T, error), want, write string) *fault {
	if v.kind != unstable.String {
		return mismatch(v, want, write)
	}
	parsed, err := parse(v.text)
	if err != nil {
		return mismatch(v, want, write)
	}
	*to = parsed
	return nil
}

// setList reads an array. The first item that is wrong is told.
func setList[T any](to *[]T, v value, setOne func(*T, value) *fault) *fault {
	if v.kind != unstable.Array {
		return mismatch(v, "a list", "[…], with commas between")
	}
	out := make([]T, len(v.items))
	for i, item := range v.items {
		if f := setOne(&out[i], item); f != nil {
			return f
		}
	}
	*to = out
	if len(out) == 0 {
		*to = nil // [] says what the default says: Diff must not tell them apart
	}
	return nil
}

func setPort(to *uint16, v value) *fault {
	n, err := strconv.ParseUint(v.text, 10, 16)
	if v.kind != unstable.Integer || err != nil || n == 0 {
		return mismatch(v, "a port", "a number from 1 to 65535")
	}
	*to = uint16(n)
	return nil
}

// setPrefix takes an address for the prefix that holds it alone. Bits behind
// the length are an error: who wrote them may have meant either.
func setPrefix(to *netip.Prefix, v value) *fault {
	const write = `"192.0.2.7", "192.0.2.0/24" or "2001:db8::/48"`
	if v.kind != unstable.String {
		return mismatch(v, "a prefix", write)
	}
	if a, err := netip.ParseAddr(v.text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		*to = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(v.text)
	switch {
	case err != nil || p.Addr().Is4In6():
		return mismatch(v, "a prefix", write)
	case p != p.Masked():
		return &fault{at: v.at.from, what: fmt.Sprintf("%q has bits set behind its length", v.text),
			hint: fmt.Sprintf("write %v for the whole prefix or %v for the one address", p.Masked(), p.Addr())}
	}
	*to = p
	return nil
}

// anyAddrPort is what to write for an address with a port.
const anyAddrPort = `"192.0.2.1:25" or "[2001:db8::1]:25"`

// setAddrPort reads addr:port; an address alone gets port 0, which the rules of
// the key turn into a default or an error.
func setAddrPort(to *netip.AddrPort, v value) *fault {
	if v.kind != unstable.String {
		return mismatch(v, "an address with a port", anyAddrPort)
	}
	text := v.text
	if port, ok := strings.CutPrefix(text, ":"); ok && port != "" {
		return &fault{at: v.at.from, what: quote(text) + " names no address",
			hint: fmt.Sprintf(`write "0.0.0.0:%s", "[::]:%s" for every address of this machine`, port, port)}
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil && a.Zone() == "" {
		*to = netip.AddrPortFrom(a.Unmap(), 0)
		return nil
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil || ap.Addr().Zone() != "" {
		return mismatch(v, "an address with a port", anyAddrPort)
	}
	*to = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	return nil
}

func setCertificate(to *Certificate, v value) *fault {
	const write = `{ cert = "/path/mx.pem", key = "/path/mx.key" }`
	if v.kind != unstable.InlineTable {
		return mismatch(v, "a certificate", write)
	}
	for _, e := range v.table {
		var place *string
		switch joinPath(e.path) {
		case "cert":
			place = &to.Cert
		case "key":
			place = &to.Key
		default:
			return &fault{at: e.key.from, what: "unknown key " + joinPath(e.path), hint: "a certificate has cert and key"}
		}
		if f := setString(place, e.value); f != nil {
			return f
		}
		if what, hint := absolute(place); what != "" {
			return &fault{at: e.value.at.from, what: what, hint: hint}
		}
	}
	if to.Cert == "" || to.Key == "" {
		return &fault{at: v.at.from, what: "a certificate needs both its files", hint: "write " + write}
	}
	return nil
}

func parseRecipients(s string) (Recipients, error) {
	if path, ok := strings.CutPrefix(s, "file:"); ok && strings.HasPrefix(path, "/") {
		return Recipients{From: FromFile, Path: path}, nil
	}
	r := Recipients{From: RecipientSource(s)}
	if !slices.Contains([]RecipientSource{FromBackend, FromAny}, r.From) {
		return r, fmt.Errorf("%q is no source of recipients", s)
	}
	return r, nil
}
