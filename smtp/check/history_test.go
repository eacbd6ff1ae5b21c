package check

import (
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// What a past weighs: from 4 down to -4, and a few unknown recipients weigh
// nothing, since old address books have them.
func TestHistory(t *testing.T) {
	for _, c := range []struct {
		name   string
		past   smtp.History
		score  float64
		detail string
	}{
		{"was banned", smtp.History{Convicted: true, Good: 100, Mails: 100, Days: 30}, 4, "was banned of late"},
		{"guesses", smtp.History{Good: 2, Bad: 20}, 4, "20 of 22 recipients unknown"},
		{"guesses less", smtp.History{Good: 2, Bad: 19}, 2, "19 of 21 recipients unknown"},
		{"an old list", smtp.History{Good: 10, Bad: 10}, 2, "10 of 20 recipients unknown"},
		{"a few unknown, no mail", smtp.History{Bad: 3}, 0, ""},
		{"half of few", smtp.History{Good: 4, Bad: 4, Mails: 4, Days: 4}, 0, ""},
		{"nothing accepted yet", smtp.History{Good: 5}, 0, ""},
		{"one mail", smtp.History{Good: 1, Mails: 1, Days: 1}, -1, "1 mail on 1 day"},
		{"many mails of one day", smtp.History{Good: 50, Mails: 50, Days: 1}, -1, "50 mails on 1 day"},
		{"some", smtp.History{Good: 5, Mails: 5, Days: 2}, -2, "5 mails on 2 days"},
		{"one mail too few", smtp.History{Good: 19, Mails: 19, Days: 3}, -2, "19 mails on 3 days"},
		{"trusted", smtp.History{Good: 20, Mails: 20, Days: 3}, -4, "20 mails on 3 days"},
		{"trusted with a fifth unknown", smtp.History{Good: 20, Bad: 5, Mails: 20, Days: 3}, -2, "20 mails on 3 days"},
	} {
		f := smtp.Facts{History: &c.past}
		v := History{Policy{}}.Judge(&f)
		if v.Score != c.score || v.Action != reply.Pass || v.Detail != c.detail {
			t.Errorf("%s: %s %v %q, want %v %q", c.name, v.Action, v.Score, v.Detail, c.score, c.detail)
		}
		reject := Policy{Set: map[string]reply.Setting{"history": {Do: reply.Reject}}}
		if v := (History{reject}).Judge(&f); (v.Action == reply.Reject) != (c.score > 0) {
			t.Errorf("%s, set to reject: %+v", c.name, v)
		}
		f.Tier = smtp.Protected
		if v := (History{Policy{}}).Judge(&f); v.Score != 0 {
			t.Errorf("%s: a protected source is judged: %+v", c.name, v)
		}
	}
	if v := (History{Policy{}}).Judge(&smtp.Facts{}); v.Score != 0 || v.Action != reply.Pass {
		t.Errorf("nothing remembered: %+v", v)
	}
}
