package syslog

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var (
	at     = time.Date(2026, 11, 22, 9, 30, 0, 123e6, time.FixedZone("CET", 3600))
	header = Header{Facility: 2, Hostname: "mx1.example.net", App: "mailweir", Proc: "mail"}
)

func TestMessage(t *testing.T) {
	for name, tc := range map[string]struct {
		h    Header
		m    Message
		want string
	}{
		"whole": {header, Message{Severity: Notice, Time: at, ID: "RCPT", Text: "recipient refused: unknown_user",
			Params: []Param{{"ref", "K7QM-2V9D-4XTR"}, {"mail_from", ""}}},
			`<21>1 2026-11-22T08:30:00.123Z mx1.example.net mailweir mail RCPT [meta sequenceId="7"][mailweir@32473 ref="K7QM-2V9D-4XTR" mail_from=""] recipient refused: unknown_user`},
		"bare": {Header{}, Message{Time: at}, `<0>1 2026-11-22T08:30:00.123Z - - - - [meta sequenceId="7"]`},
		"escapes": {header, Message{Severity: Info, Time: at, ID: "T", Text: `a "quote" \ ]`, Params: []Param{{"v", `"q" \ [x] é` + "\x00\r\n\x7f\u0085\xff\u202e\u2066"}}},
			`<22>1 2026-11-22T08:30:00.123Z mx1.example.net mailweir mail T [meta sequenceId="7"][mailweir@32473 v="\"q\" \\ [x\] é��������"] a "quote" \ ]`},
		"names": {Header{Hostname: "a b\n]=\"é", App: strings.Repeat("x", 60)}, Message{Time: at, ID: strings.Repeat("I", 40), Params: []Param{{"a =]\"b", "v"}}},
			`<0>1 2026-11-22T08:30:00.123Z ab ` + strings.Repeat("x", 48) + ` - ` + strings.Repeat("I", 32) + ` [meta sequenceId="7"][mailweir@32473 ab="v"]`},
		"long": {Header{}, Message{Time: at, Params: []Param{{"v", strings.Repeat("é", maxValue)}}},
			`<0>1 2026-11-22T08:30:00.123Z - - - - [meta sequenceId="7"][mailweir@32473 v="` + strings.Repeat("é", maxValue/2) + `…"]`},
	} {
		if got := string(tc.h.Append(nil, &tc.m, 7)); got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tc.want)
		}
	}
}

func TestParseFacility(t *testing.T) {
	for name, want := range map[string]Facility{"kern": 0, "mail": 2, "authpriv": 10, "local0": 16, "local7": 23} {
		if got, err := ParseFacility(name); err != nil || got != want {
			t.Errorf("%s is %d, %v, want %d", name, got, err, want)
		}
	}
	if _, err := ParseFacility("nonsense"); err == nil || !strings.Contains(err.Error(), "local7") {
		t.Errorf("error %v names no way out", err)
	}
}

// grammar is RFC 5424 section 6 for what we write.
var grammar = regexp.MustCompile(`^<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [!-~]{1,255} [!-~]{1,48} [!-~]{1,128} [!-~]{1,32} ` +
	`\[meta sequenceId="\d+"\](\[mailweir@32473 [!-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*"\])( .*)?$`)

// Whatever a stranger says stays inside its value, on one line.
func FuzzMessage(f *testing.F) {
	f.Add("mail.example", "text")
	f.Add("\"] x=\"\\", "\n<0>1 - - - - - -")
	f.Add("\xff\xfe\u2028", "\x00")
	f.Fuzz(func(t *testing.T, value, text string) {
		b := header.Append(nil, &Message{Severity: Info, Time: at, ID: "T", Text: text, Params: []Param{{"v", value}}}, 1)
		if !grammar.Match(b) {
			t.Errorf("%q is not of the grammar", b)
		}
		if strings.ContainsAny(string(b), "\r\n\x00") || !utf8.Valid(b) {
			t.Errorf("%q has control characters, or is no UTF-8", b)
		}
	})
}

// An alarm's text says by itself what it is.
func TestReadableSaysTheKindOnce(t *testing.T) {
	for text, want := range map[string]string{"alarm: ledger": "alarm: ledger", "something": "alarm: something"} {
		if got := string(appendReadable(nil, &Message{ID: "ALARM", Text: text})); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
