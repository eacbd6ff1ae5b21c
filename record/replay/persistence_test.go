package replay_test

import (
	"fmt"
	"testing"
	"time"

	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/smtp"
	"mailweir/smtp/check"
)

// Two hosts of a dial-up pool whose name in HELO does not exist, one message in 40
// seconds, all refused by their score. One talks before its turn, and is refused
// for what it is: it goes on, and is banned. The other forwards what others sent, so
// that SPF fails: it never is (smtp-filter.md section 4).
func TestForwarderWithABadNameIsNotPersistent(t *testing.T) {
	for _, seed := range append(tuned, untuned...) {
		for _, attacker := range []bool{true, false} {
			s := newStage(seed)
			a := addr("203.0.113.21")
			for range 90 {
				s.after(40 * time.Second)
				l := s.send(a, fmt.Sprintf("u%d@elsewhere.example", s.rng.IntN(30)), good(person(s.rng.IntN(40)))...)
				l.RDNS = &record.RDNS{Name: "dyn-21-113-0-203.isp.example", State: smtp.Mismatched, Class: "dynamic"}
				l.HELO, l.HELOName = "mail.forward.example", smtp.HELOMissing
				if attacker {
					l.Slips = []string{"early_talk"}
				} else {
					l.SPF = "fail"
				}
			}
			s.verdict(attacker, a, 0) // it guesses nothing
			refused := 0
			says, _ := play(t, s.lines, s.truth, func(o *replay.Options) { o.Chain = check.Policy{MaxRecipients: 100}.Chain() })
			hold(t, s.lines, s.truth, says)
			for _, v := range says {
				if c, ok := v.(replay.Change); ok && c.Result.Reason == "score" {
					refused++
				}
			}
			if refused < 9 { // else the twins are not the same but for one fact
				t.Errorf("attacker %v: %d were refused by their score", attacker, refused)
			}
		}
	}
}
