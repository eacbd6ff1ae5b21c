package bench

import (
	"testing"
	"time"

	"mailweir/lab"
)

// BenchmarkRefuseFile refuses strangers who name five recipients that do not
// exist, when it is known from a file who does.
func BenchmarkRefuseFile(b *testing.B) {
	s := newSite(b)
	s.writeRecipients(b)
	d := duel{
		site: s, what: "5 unknown recipients refused, from a file", aim: 2,
		sides: [2]side{s.ours(b, "refuse-file.toml"), s.theirs(b, "refuse-file.cf")},
		leftOut: []string{
			"ours: harvest, which would ban the clients",
			"theirs: a record of each transaction; Postfix logs lines", "theirs: SPF",
		},
	}
	d.fight(b, load{Sources: sources, Clients: 20, For: 3 * time.Second, Unknown: 5})
}

// BenchmarkRefuseLive does the same when the backend is asked who exists. No
// recipient is named twice, so that no answer is remembered.
func BenchmarkRefuseLive(b *testing.B) {
	s := newSite(b)
	s.office.Postfix(lab.PostfixOptions{
		Users: []string{"anna@example.com"},
		Main:  []string{"smtpd_peername_lookup = no"}, // so that look-ups counted are those of the sides
	})
	d := duel{
		site: s, what: "5 unknown recipients refused, asked live", aim: 2,
		sides: [2]side{s.ours(b, "refuse-live.toml"), s.theirs(b, "refuse-live.cf")},
		leftOut: []string{
			"ours: harvest, which would ban the clients",
			"theirs: a record of each transaction; Postfix logs lines", "theirs: SPF",
		},
	}
	d.fight(b, load{Sources: sources, Clients: 20, For: 4 * time.Second, Unknown: 5})
}
