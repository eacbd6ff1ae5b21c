package config

import (
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// Chapter writes the manual's chapter of the configuration file, made from the
// schema that reads the file.
func Chapter(w io.Writer) {
	fmt.Fprint(w, chapterHead)
	for _, s := range schema {
		fmt.Fprintf(w, "\n## %s\n\n%s\n", s.title(), s.doc)
		for _, k := range s.keys {
			k.write(w, s)
		}
	}
	fmt.Fprint(w, "\n## Not served yet\n\nThese keys are known, and refused until what they set is there:\n\n")
	for _, l := range later {
		fmt.Fprintf(w, "- `%s`: comes with %s\n", l.path, l.with)
	}
}

const chapterHead = `The file is TOML: ` + "`/etc/mailweir/weir.toml`, or what `-c` names" + `. Everything has a default but hostname and the domains.

Durations are texts such as "90s", "5m", "48h", "14d"; sizes such as "64KiB", "50MiB", "4GiB"; prefixes such as "192.0.2.0/24" or "2001:db8::/48",
and a single address stands for itself. "weir check" names every mistake with its line and column, and "weir reload" changes nothing while there is one.
A key that is not listed here is an error, and so is one whose effect has not come yet. At start, a file with errors raises an alarm, and the last
good one runs.
`

func (s section) title() string {
	switch {
	case s.path == "":
		return "The top of the file"
	case s.named:
		return "[" + s.path + ".NAME]"
	}
	return "[" + s.path + "]"
}

func (k key) write(w io.Writer, s section) {
	place := k.defaultPlace(s)
	is := "default `" + literal(place) + "`"
	switch {
	case k.must:
		is = "must be given"
	case s.path == "domain" && k.name == "max_message_size":
		is = "default: that of [smtp]"
	case s.path == "domain" && k.name != "recipients":
		is = "default: as for all"
	}
	if k.atStart {
		is += ", read at start only"
	}
	fmt.Fprintf(w, "\n**`%s`** · %s, %s  \n%s\n", k.name, kindOf(place), is, k.doc)
}

// defaultPlace is where a key's default stands.
func (k key) defaultPlace(s section) any {
	c := Default()
	return k.place(&c, "name")
}

// kindOf names what may stand in a place.
func kindOf(place any) string {
	switch place.(type) {
	case *bool:
		return "true or false"
	case *int:
		return "whole number"
	case *float64:
		return "number"
	case *time.Duration:
		return "duration"
	case *Retention:
		return "duration, or `forever`"
	case *Size:
		return "size"
	case *[]string:
		return "list of texts"
	case *[]uint16:
		return "list of ports"
	case *[]netip.Prefix:
		return "list of prefixes"
	case *[]netip.AddrPort:
		return "list of addresses"
	case *[]Certificate:
		return "list of tables"
	case *map[string]float64, *map[string]string, *map[string][]string:
		return "table"
	}
	return "text"
}

// literal writes what a place holds as the file would have it.
func literal(place any) string {
	switch v := place.(type) {
	case *time.Duration:
		return quote(formatDuration(*v))
	case *Retention:
		return quote(v.String())
	case *Size:
		return quote(v.String())
	case *string:
		return quote(*v)
	case *Recipients:
		return quote(string(v.From))
	case *[]netip.AddrPort:
		var parts []string
		for _, a := range *v {
			parts = append(parts, quote(a.String()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *map[string]float64, *map[string]string, *map[string][]string:
		return "{}"
	case *bool, *int, *float64:
		return fmt.Sprint(reflect.ValueOf(place).Elem())
	}
	return "[]" // the other lists are empty by default
}
