// Package syslog sends events as RFC 5424 messages: to a collector over TCP
// (RFC 6587, octets counted) or TLS (RFC 5425), to the local socket, or as
// readable lines to standard error.
//
// An Exporter has one target and a bounded queue. Send never blocks: what a
// slow or absent target does not take is dropped, counted, and said in an event
// of its own when the target is back. Each message carries a sequenceId (RFC
// 5424 section 7.3.1), so that a gap shows at the other end, and so does a
// message that was sent twice because a connection broke under it.
package syslog

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// SDID names the structured data of our messages. 32473 is the enterprise
// number that RFC 5612 reserves for examples: Mailweir has none of its own.
const SDID = "mailweir@32473"

// Severity is how much an event matters (RFC 5424 section 6.2.1).
type Severity uint8

// The severities that we use.
const (
	Error   Severity = 3
	Warning Severity = 4
	Notice  Severity = 5
	Info    Severity = 6
)

// Facility is what kind of program speaks (RFC 5424 section 6.2.1).
type Facility uint8

var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// ParseFacility reads the name of a facility.
func ParseFacility(name string) (Facility, error) {
	for i, f := range facilities {
		if f == name {
			return Facility(i), nil
		}
	}
	return 0, fmt.Errorf("unknown syslog facility %q: use one of %s", name, strings.Join(facilities, ", "))
}

// Param is one value of the structured data.
type Param struct{ Name, Value string }

// Message is one event.
type Message struct {
	Severity Severity
	Time     time.Time
	ID       string // what kind of event: "TRANSACTION"
	Params   []Param
	Text     string  // for people
	Origin   *Origin // nil: we
}

// Header is what all messages of a process have in common.
type Header struct {
	Facility Facility
	Hostname string
	App      string
	Proc     string
}

// maxValue bounds a value, in bytes; a message of ours stays below the 8 KiB
// that collectors take by default.
const maxValue = 1024

// Append appends m in the form of RFC 5424.
func (h *Header) Append(b []byte, m *Message, seq uint32) []byte {
	from := Origin{h.Facility, h.App, h.Proc}
	if m.Origin != nil {
		from = *m.Origin
	}
	b = fmt.Appendf(b, "<%d>1 %s ", int(from.Facility)<<3|int(m.Severity), m.Time.UTC().Format("2006-01-02T15:04:05.000Z"))
	for _, f := range []struct {
		s   string
		max int // RFC 5424 section 6
	}{{h.Hostname, 255}, {from.App, 48}, {from.Proc, 128}, {m.ID, 32}} {
		b = append(appendName(b, f.s, f.max), ' ')
	}
	b = fmt.Appendf(b, `[meta sequenceId="%d"]`, seq)
	if len(m.Params) > 0 {
		b = append(b, "["+SDID...)
		for _, p := range m.Params {
			b = append(appendName(append(b, ' '), p.Name, 32), `="`...)
			b = append(appendValue(b, p.Value), '"')
		}
		b = append(b, ']')
	}
	if m.Text != "" {
		b = appendText(append(b, ' '), m.Text)
	}
	return b
}

// appendName appends a field of printable ASCII, "-" for an empty one.
func appendName(b []byte, s string, most int) []byte {
	n := len(b)
	for i := 0; i < len(s) && len(b)-n < most; i++ {
		if c := s[i]; c > ' ' && c < 0x7f && !strings.ContainsRune(`="]`, rune(c)) {
			b = append(b, c)
		}
	}
	if len(b) == n {
		b = append(b, '-')
	}
	return b
}

// appendValue escapes what RFC 5424 section 6.3.3 says.
func appendValue(b []byte, s string) []byte {
	for _, r := range clip(s) {
		if r == '"' || r == '\\' || r == ']' {
			b = append(b, '\\')
		}
		b = utf8.AppendRune(b, printable(r))
	}
	return b
}

func appendText(b []byte, s string) []byte {
	for _, r := range clip(s) {
		b = utf8.AppendRune(b, printable(r))
	}
	return b
}

// printable replaces control characters: a line feed that a stranger put into
// his HELO must not begin a line in somebody's log, nor what turns the direction
// of writing make the line say something else.
func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
		return utf8.RuneError
	}
	return r
}

// clip cuts s to maxValue bytes, not inside of a character.
func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	n := maxValue
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
