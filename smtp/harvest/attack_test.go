package harvest

import (
	"fmt"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// told says whether a stranger who names an unknown recipient of a domain is
// told the truth.
func (s *scene) told(i int, domain string) bool {
	src := stranger("100.%d.%d.%d", 64+i>>16, i>>8&255, i&255)
	to := smtp.Recipient{To: fmt.Sprintf("n%d@%s", i, domain), Oracle: smtp.Unknown, Age: smtp.Cached}
	return s.w.Recipient(s.now, src, to, false).Say != reply.UnderAttack
}

// A botnet that spreads its guesses over a hoster's domains, each far below
// what is an attack on one, is told nothing either.
func TestAttackOnAllDomainsTogether(t *testing.T) {
	s := newScene(t, smtp.New)
	truths := 0
	for i := range 3000 {
		s.now = s.now.Add(400 * time.Millisecond)
		if s.told(i, fmt.Sprintf("customer%d.example", i%100)) {
			truths++
		}
	}
	if truths > 150 {
		t.Errorf("%d of 3000 guesses were told the truth, want 5 %%", truths)
	}
	if list := s.w.Alarms(s.now); len(list) != 1 || list[0].Domain != "" {
		t.Errorf("alarms %v", list)
	}
}

// The slips of busy people are no attack, however many they are.
func TestTyposOfALargeDomainAreNoAttack(t *testing.T) {
	for _, share := range []int{10, 2} {
		s := newScene(t, smtp.New)
		for i := range 20_000 { // 600 a minute
			s.now = s.now.Add(100 * time.Millisecond)
			if i%share == 0 {
				s.told(i, "example.com")
			} else {
				s.mails(stranger("101.%d.%d.1", i>>8, i&255), fmt.Sprintf("user%d@example.com", i%500), smtp.Valid)
			}
		}
		if got, want := len(s.w.Alarms(s.now)) > 0, share == 2; got != want {
			t.Errorf("one in %d unknown: under attack %v", share, got)
		}
	}
}

// What goes on for weeks is no attack but what the domain is used to.
func TestNoiseThatNeverEndsIsNoAttackForEver(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 20 * 24 * 200 { // 200 an hour, for twenty days
		s.now = s.now.Add(18 * time.Second)
		s.told(i, "example.com")
		if s.now.Sub(start) == 36*time.Hour && len(s.w.Alarms(s.now)) != 1 {
			t.Error("no attack after a day and a half")
		}
	}
	if list := s.w.Alarms(s.now); len(list) != 0 {
		t.Errorf("alarms after twenty days: %v", list)
	}
}

// Mailboxes were removed, and several hosts hear so: the directory is not
// broken as long as the backend takes messages, even if nobody asks it.
func TestRemovedMailboxesBreakNoDirectory(t *testing.T) {
	for _, delivered := range []bool{true, false} {
		s := newScene(t, smtp.New)
		for i := range 10 {
			s.mails(stranger("192.0.2.1"), fmt.Sprintf("user%d@example.com", i), smtp.Valid)
		}
		for i := range 6 {
			s.now = s.now.Add(time.Minute)
			a := recipientSaid(s, stranger("192.0.2.%d", 1+i%2), fmt.Sprintf("user%d@example.com", i))
			if broken := a == reply.OracleAway; broken != (!delivered && i >= brokenKnown-1) {
				t.Errorf("delivered %v: removed mailbox %d hears %q", delivered, i, a)
			}
			if delivered {
				s.mails(stranger("192.0.2.1"), "user9@example.com", smtp.Valid)
			}
		}
	}
}

func recipientSaid(s *scene, src smtp.Source, to string) reply.Reason {
	return s.w.Recipient(s.now, src, smtp.Recipient{To: to, Oracle: smtp.Unknown}, false).Say
}

// Only what may be a mail server is taken for one that bounces.
func TestNamelessHostsBounceNothing(t *testing.T) {
	for _, nameless := range []bool{true, false} {
		s := newScene(t, smtp.New)
		bot := s.src
		bot.Nameless = nameless
		convicted := false
		for i := range 1000 {
			s.now = s.now.Add(5 * time.Second)
			s.guess(stranger("100.64.%d.1", i%250), true)
			convicted = convicted || s.guess(bot, true).Convicted
		}
		if convicted != nameless {
			t.Errorf("nameless %v: convicted %v", nameless, convicted)
		}
	}
}

// Somebody signs addresses up that do not exist: the services that write to
// them share no list of guesses, and neither do they probe for a relay.
func TestVouchedServicesAreLedIntoNothing(t *testing.T) {
	for _, vouched := range []bool{true, false} {
		s := newScene(t, smtp.New)
		convicted := false
		for i := range 4 {
			for host := range 20 {
				src := stranger("100.64.%d.1", host)
				src.Vouched = vouched
				s.now = s.now.Add(time.Second)
				c, ok := recipient(s.w, s.now, src, smtp.Recipient{To: fmt.Sprintf("signed-up%d@example.com", i), Oracle: smtp.Unknown}, false)
				convicted = convicted || ok && c.Evidence.Rule == RuleShared
			}
		}
		if convicted == vouched {
			t.Errorf("vouched %v: convicted %v", vouched, convicted)
		}
		probe := stranger("100.65.0.1")
		probe.Vouched = vouched
		s.src = probe
		if at := s.relaying(5, false, "d%d.example"); (at == 5) == vouched {
			t.Errorf("vouched %v: a relay probe at domain %d", vouched, at)
		}
	}
}
