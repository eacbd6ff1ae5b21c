package syslog

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// Origin is who speaks, where it is not us: a program of this machine whose
// message we pass on.
type Origin struct {
	Facility Facility
	App      string // "sshd"
	Proc     string // its process id; "" where there is none
}

var errNotLocal = errors.New("no message as syslog(3) writes it")

// ParseLocal reads a message as programs write it to the local socket and
// systemd-journald passes it on: "<86>Nov 27 11:59:44 sshd[123]: text" (RFC 3164
// without a host). Its time is left out: it has no year and no zone.
func ParseLocal(b []byte) (m Message, err error) {
	b, ok := bytes.CutPrefix(b, []byte("<"))
	number, rest, closed := bytes.Cut(b, []byte(">"))
	pri, err := strconv.ParseUint(string(number), 10, 8)
	if !ok || !closed || err != nil || pri > 191 {
		return m, errNotLocal
	}
	const stamp = len("Nov 27 11:59:44 ")
	if len(rest) < stamp || rest[stamp-1] != ' ' || rest[stamp-4] != ':' {
		return m, errNotLocal
	}
	tag, text, _ := strings.Cut(string(rest[stamp:]), ": ")
	app, proc, _ := strings.Cut(tag, "[")
	return Message{
		Severity: Severity(pri % 8), Text: strings.TrimRight(text, "\n\x00"),
		Origin: &Origin{Facility: Facility(pri / 8), App: app, Proc: strings.TrimSuffix(proc, "]")},
	}, nil
}
