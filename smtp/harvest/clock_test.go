package harvest

import (
	"fmt"
	"testing"
	"time"

	"mailweir/smtp"
)

// R-CX-02: a clock that was years ahead and is set right leaves no domain under
// attack until it is there again, no sender put off, and nobody convicted for
// what has long been over.
func TestClockThatWentBack(t *testing.T) {
	s := newScene(t, smtp.New)
	s.now = start.AddDate(4, 0, 0)
	for i := range 50 {
		s.told(i, "example.com")
	}
	s.guesses("ahead", 12, time.Second)
	ahead := stranger("102.%d.%d.%d", 1, 2, 3)
	s.mails(ahead, "anna@example.com", smtp.Valid)
	if len(s.w.Alarms(s.now)) == 0 {
		t.Fatal("no attack to begin with")
	}

	s.now = start
	if list := s.w.Alarms(s.now); len(list) != 0 {
		t.Errorf("alarms %v", list)
	}
	for i := range 40 { // ten a day are no attack
		s.now = s.now.Add(2 * time.Hour)
		s.told(1000+i, "example.com")
	}
	if list := s.w.Alarms(s.now); len(list) != 0 {
		t.Errorf("alarms %v", list)
	}
	if a := s.w.Recipient(s.now, ahead, smtp.Recipient{To: "anna@example.com", Oracle: smtp.Valid}, false); a.Say != "" {
		t.Errorf("who came then hears %s", a.Say)
	}
	for i := range 10 {
		s.now = s.now.Add(time.Hour)
		if c, ok := s.rcpt(fmt.Sprintf("typo%d@example.com", i), smtp.Unknown); ok {
			t.Fatalf("convicted by %s with %d", c.Evidence.Rule, c.Evidence.Unknown)
		}
	}

	good := stranger("102.%d.%d.%d", 9, 9, 9)
	good.Session = 7
	s.now = start.AddDate(4, 0, 0)
	s.w.Finished(s.now, good, smtp.Accepted, "")
	s.now = start.AddDate(0, 1, 0)
	s.w.Finished(s.now, good, smtp.Accepted, "")
	if got := s.w.Tier(s.now, good.Addr, smtp.New); got != smtp.Known {
		t.Errorf("whose mail was accepted is %s", got)
	}
	if got := s.w.Tier(s.now.Add(knownFor), good.Addr, smtp.New); got != smtp.New {
		t.Errorf("who was away for %v is %s", knownFor, got)
	}
}
