package bench

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// BenchmarkRelay passes messages of 4 KiB on, and says 250 only after the
// backend has.
func BenchmarkRelay(b *testing.B) {
	s := newSite(b)
	sink := s.sink(b)
	d := duel{
		site: s, what: "a message of 4 KiB relayed", aim: 1.5, arrived: func() int { return messages(sink.Log()) },
		sides: [2]side{s.ours(b, "relay.toml"), s.theirs(b, "relay.cf")},
		leftOut: []string{
			"theirs: a record of each transaction; Postfix logs lines", "theirs: SPF",
			"both: syncing, because neither keeps the message",
		},
	}
	d.fight(b, load{Sources: sources, Clients: 20, For: 3 * time.Second, Body: 4 << 10})
}

// sink makes the backend one that takes everything and keeps nothing:
// smtp-sink(1) of Postfix.
func (s *site) sink(b *testing.B) *lab.Process {
	b.Helper()
	root := s.office.Root("sink", "postfix")
	sink, err := s.office.Start("sink", root.Command("/usr/sbin/smtp-sink", "-c", "-u", "nobody", "0.0.0.0:25", "1000"))
	if err != nil {
		b.Fatal(err)
	}
	s.Eventually(10*time.Second, "the sink greets", func() bool {
		_, greeting, err := s.client.SMTP(patient(b), sources.Addr().Next(), smtpPort(s.office))
		return err == nil && greeting.Code == 220
	})
	return sink
}

// messages is the last counter of those that the sink took: "mesg=12".
func messages(log string) int {
	_, last, _ := strings.Cut(log[max(0, strings.LastIndex(log, "mesg=")):], "mesg=")
	n, _ := strconv.Atoi(strings.TrimRight(strings.SplitN(last, "\r", 2)[0], " \n"))
	return n
}
