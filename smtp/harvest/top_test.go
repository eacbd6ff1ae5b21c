package harvest

import (
	"fmt"
	"testing"
	"time"

	"mailweir/smtp"
)

// weir top says how near a conviction is, as it is now: while the domain is under
// attack half as many convict.
func TestTopKnowsTheAttack(t *testing.T) {
	for _, attack := range []bool{false, true} {
		s := newScene(t, smtp.New)
		s.guesses("g", 12, time.Second)
		want := 12 / 25.0
		if attack {
			want = 12 / 12.5
			for i := range 40 {
				s.told(i, "example.com")
			}
		}
		if got := s.near(); got.Nearby != want || got.Rule != RuleHour {
			t.Errorf("under attack %v: %.2f near %s, want %.2f near %s", attack, got.Nearby, got.Rule, want, RuleHour)
		}
	}
}

// Nor does who guesses slower than any window sees look harmless there.
func TestTopKnowsTheSlow(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 150 {
		s.now = s.now.Add(3 * time.Hour)
		s.rcpt("postmaster@example.com", smtp.Valid)
		s.rcpt(fmt.Sprintf("slow%d@example.com", i), smtp.Unknown)
	}
	if got := s.near(); got.Nearby != 0.75 || got.Rule != RuleEver {
		t.Errorf("%.2f near %s after 150 guesses, want 0.75 near %s", got.Nearby, got.Rule, RuleEver)
	}
}

// near is the source of the scene as weir top shows it.
func (s *scene) near() Attacker {
	s.t.Helper()
	for _, a := range s.w.Top(s.now, 100) {
		if a.Source.Contains(s.src.Addr) {
			return a
		}
	}
	s.t.Fatal("it is not shown")
	return Attacker{}
}
