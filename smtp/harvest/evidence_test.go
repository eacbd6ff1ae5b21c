package harvest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

func stranger(format string, n ...any) smtp.Source {
	return smtp.Source{Addr: netip.MustParseAddr(fmt.Sprintf(format, n...)), Tier: smtp.New}
}

// guess names an unknown recipient that nobody named before.
func (s *scene) guess(src smtp.Source, null bool) smtp.Advice {
	s.n++
	return s.w.Recipient(s.now, src, smtp.Recipient{To: fmt.Sprintf("nobody%d@example.com", s.n), Oracle: smtp.Unknown, Age: smtp.Cached}, null)
}

// mails has a source deliver a message to a recipient that exists.
func (s *scene) mails(src smtp.Source, to string, state smtp.OracleState) smtp.Advice {
	s.n++
	src.Ref = ref.Ref(s.n)
	a := s.w.Recipient(s.now, src, smtp.Recipient{To: to, Oracle: state, Age: smtp.Cached}, false)
	if a.Say == "" {
		s.w.Finished(s.now, src, smtp.Accepted, "")
	}
	return a
}

// R-BX-13: many addresses of one ASN, or with one HELO, each below every rule:
// once the crowd is found out, strangers of it need half as much and are told
// nothing. Those outside are not touched, nor is somebody known.
func TestCrowds(t *testing.T) {
	for name, member := range map[string]func(smtp.Source) smtp.Source{
		"HELO": func(s smtp.Source) smtp.Source { s.HELO = "bot.example"; return s },
		"ASN":  func(s smtp.Source) smtp.Source { s.ASN = 64500; return s },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, smtp.New)
			for i := range 120 { // one in half a minute, that the domain is not under attack
				s.now = s.now.Add(31 * time.Second)
				s.guess(member(stranger("198.51.%d.1", i%40)), false)
			}
			for i := range 130 {
				s.mails(stranger("192.0.%d.1", i), "anna@example.com", smtp.Valid) // nor by the hour
			}
			if a := s.guess(member(stranger("100.64.1.1")), false); a.Say != reply.UnderAttack {
				t.Errorf("a member is told %q", a.Say)
			}
			if a := s.guess(stranger("100.64.1.2"), false); a.Say != "" {
				t.Errorf("who is no member is told %q", a.Say)
			}
			known := member(stranger("192.0.1.1"))
			if a := s.guess(known, false); a.Say != "" {
				t.Errorf("a known member is told %q", a.Say)
			}
			n := 1
			for !s.guess(member(stranger("100.64.1.1")), false).Convicted {
				n++
			}
			if n != 12 {
				t.Errorf("a member was convicted by %d guesses, want 13", n+1)
			}
		})
	}
}

// The same crowd with as many good recipients is none.
func TestCrowdOfHonestSenders(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 200 {
		s.now = s.now.Add(20 * time.Second)
		src := stranger("198.51.%d.1", i%50)
		src.HELO, src.ASN = "mail", 64500
		if i%2 == 0 {
			recipient(s.w, s.now, src, smtp.Recipient{To: fmt.Sprintf("user%d@example.com", i), Oracle: smtp.Valid, Age: smtp.Cached}, false)
		} else if a := s.guess(src, false); a.Say != "" || a.Convicted {
			t.Fatalf("recipient %d: %+v", i, a)
		}
	}
}

// A botnet that stays below the rate of a minute shows by the hour.
func TestSlowBotnetIsAnAttack(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 400 { // 400 an hour
		s.now = s.now.Add(9 * time.Second)
		a := s.guess(stranger("100.%d.%d.1", 64+i/200, i%200), false)
		if told := a.Say != reply.UnderAttack; told != (i < slowRate) {
			t.Fatalf("guess %d: told the truth %v", i+1, told)
		}
	}
}

// One unknown recipient each time, for weeks: the same one counts once.
func TestMonitorIsNoGuesser(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 24 * 60 {
		s.now = s.now.Add(time.Hour)
		if _, ok := s.rcpt("probe@example.com", smtp.Unknown); ok {
			t.Fatalf("convicted after %d hours", i)
		}
	}
	src := s.w.e.sources.find(sourceKey(s.src.Addr))
	if src.past.bad != 1 {
		t.Errorf("counted %d times, want once", src.past.bad)
	}
}

// R-BX-13: however slow, and always by 1,000 whatever else he names.
func TestVerySlowGuessers(t *testing.T) {
	s := newScene(t, smtp.New)
	if at, c := s.guesses("g", 1000, 3*time.Hour); at != 200 || c.Evidence.Rule != RuleEver {
		t.Errorf("one in three hours: convicted at guess %d by %q", at, c.Evidence.Rule)
	}
	s = newScene(t, smtp.New)
	for i := range 1000 {
		s.now = s.now.Add(20 * time.Minute)
		s.mails(s.src, fmt.Sprintf("user%d@example.com", i), smtp.Valid)
		if a := s.guess(s.src, false); a.Convicted != (i == 999) {
			t.Fatalf("guess %d of one who mixes and has a name: convicted %v", i+1, a.Convicted)
		}
	}
}

// Good mail that is sent along with the guesses does not raise the absolute
// number; that of days before does.
func TestGoodMailOfTodayBuysNothing(t *testing.T) {
	for days, want := range map[int]int{0: 300, 2: 1000} {
		s := newScene(t, smtp.New)
		for d := range days {
			s.now = s.now.Add(24 * time.Hour)
			s.mails(s.src, fmt.Sprintf("day%d@example.com", d), smtp.Valid)
		}
		at := 0
		for i := range 2000 {
			s.now = s.now.Add(time.Minute)
			if i%2 == 0 {
				s.mails(s.src, fmt.Sprintf("user%d@example.com", i), smtp.Valid)
			} else if at++; s.guess(s.src, false).Convicted {
				break
			}
		}
		if at != want && at != want/2 { // the day forgets
			t.Errorf("%d days of good mail before: convicted at %d, want %d", days, at, want)
		}
	}
}

// A compromised host behind the address of an office opens sessions that are
// closed; the office is not convicted for those.
func TestStrikesBehindNAT(t *testing.T) {
	for _, office := range []bool{true, false} {
		s := newScene(t, smtp.New)
		for i := range 20 {
			s.now = s.now.Add(4 * time.Hour)
			if office {
				s.mails(s.src, fmt.Sprintf("user%d@example.com", i), smtp.Valid)
			}
		}
		convicted := false
		for session := range 8 {
			for range 10 {
				s.now = s.now.Add(90 * time.Second)
				src := s.src
				src.Session = ref.Ref(session + 1)
				convicted = convicted || s.guess(src, false).Convicted
			}
		}
		if convicted == office {
			t.Errorf("an office behind it %v: convicted %v", office, convicted)
		}
	}
}

// R-CX-04: a trusted pool with a guesser among its users is not banned and does
// not lose its name; unknown recipients of it hear 451 for a day, and a session
// of guesses 421.
func TestPoolIsSlowedNotBanned(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 40 {
		s.now = s.now.Add(3 * time.Hour)
		s.mails(s.src, fmt.Sprintf("user%d@example.com", i), smtp.Valid)
	}
	spared := 0
	for i := range 20_000 {
		s.now = s.now.Add(8 * time.Second)
		s.mails(s.src, fmt.Sprintf("more%d@example.com", i), smtp.Valid)
		if i%7 != 0 {
			continue
		}
		a := s.guess(s.src, false)
		if a.Convicted && !a.Conviction.Spared {
			t.Fatalf("guess %d: banned by %q", i, a.Conviction.Evidence.Rule)
		}
		if a.Convicted {
			spared++
		}
		if spared > 0 && !a.Convicted && (a.Say != reply.UnderAttack || a.Wait == 0) {
			t.Fatalf("guess %d after the conviction is told %+v", i, a)
		}
	}
	if spared == 0 {
		t.Error("never reported")
	}
	src := s.src
	src.Session = 1
	for range closeUnknown - 1 {
		s.guess(src, false)
	}
	if a := s.guess(src, false); a.Say != reply.TooManyUnknown {
		t.Errorf("a session of guesses is told %q", a.Say)
	}
}

// Where a good neighbour is known in the /64, each address stands for itself,
// for the ban as well.
func TestGoodNeighbourInTheSlash64(t *testing.T) {
	s := newScene(t, smtp.New)
	good, bad := stranger("2001:db8:1::10"), stranger("2001:db8:1::66")
	if n := s.w.Widest(s.now, bad.Addr); n != 48 {
		t.Fatalf("nobody is known: widest %d, want 48", n)
	}
	s.mails(good, "anna@example.com", smtp.Valid)
	at := 1
	for !s.guess(bad, false).Convicted {
		s.now = s.now.Add(10 * time.Second)
		at++
	}
	if n := s.w.Widest(s.now, bad.Addr); n != 128 || at != 25 {
		t.Errorf("convicted by guess %d and the ban is for a /%d, want 25 and 128", at, n)
	}
	if tier := s.w.Tier(s.now, good.Addr, smtp.New); tier != smtp.Known {
		t.Errorf("the neighbour is %s", tier)
	}
}

// Mail was delivered to it when the route took everybody: a list that has it
// still is stale, and no guess.
func TestWhatWasDeliveredToWasThere(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 60 {
		s.mails(stranger("192.0.2.1"), fmt.Sprintf("old%d@example.com", i), smtp.Any)
	}
	if at, _ := s.guesses("old", 60, time.Second); at != 0 {
		t.Errorf("a stale list was convicted at %d", at)
	}
	if at, _ := s.guesses("new", 60, time.Second); at == 0 {
		t.Error("a guesser was not")
	}
}

// Bounces of forged mail come from everywhere: who sends many of them among
// others is no guesser, who does alone is.
func TestWaveOfBounces(t *testing.T) {
	for _, wave := range []bool{true, false} {
		s := newScene(t, smtp.New)
		convicted := false
		for i := range 6000 {
			s.now = s.now.Add(5 * time.Second)
			if wave {
				s.guess(stranger("100.64.%d.1", i%250), true)
			}
			convicted = convicted || s.guess(s.src, true).Convicted
		}
		if convicted == wave {
			t.Errorf("a wave %v: convicted %v", wave, convicted)
		}
	}
}

// Smtp-filter.md section 4: who sends on what others forged is not banned for what
// the messages say; who is refused for what he is, and comes again and again, is.
func TestRefusedMessagesAreNoPersistence(t *testing.T) {
	for taken, want := range map[bool]bool{true: false, false: true} {
		s := newScene(t, smtp.New)
		s.mails(s.src, "anna@example.com", smtp.Valid)
		for i := range 2 * Default.SessionsPerHour {
			s.src.Session = ref.Ref(1000 + i)
			r := smtp.Recipient{To: "anna@example.com", Oracle: smtp.Valid, Age: smtp.Cached}
			if s.src.Itself = !taken; !taken {
				r.Reason = reply.Score
			}
			s.w.Recipient(s.now, s.src, r, false)
			s.w.Finished(s.now, s.src, smtp.Rejected, reply.Score)
			s.now = s.now.Add(time.Minute)
		}
		if _, got := s.w.Connected(s.now, s.src); got != want {
			t.Errorf("recipients taken %v: convicted %v", taken, got)
		}
	}
}

// The same sum of scores bans who is refused by what he is, and never a forwarder
// who is refused for what others sent through him.
func TestSumOfScoresIsPersistenceOfWhomItIsAbout(t *testing.T) {
	for _, itself := range []bool{true, false} {
		s := newScene(t, smtp.New)
		s.src.Itself = itself
		got := false
		for i := range 2 * Default.RefusedPerHour {
			s.src.Session, s.src.Ref = ref.Ref(1000+i), ref.Ref(5000+i)
			r := smtp.Recipient{To: "anna@example.com", Oracle: smtp.Valid, Age: smtp.Cached, Reason: reply.Score}
			got = got || s.w.Recipient(s.now, s.src, r, false).Convicted
			s.w.Finished(s.now, s.src, smtp.Rejected, reply.Score)
			_, marked := s.w.Connected(s.now, s.src)
			got = got || marked
			s.now = s.now.Add(time.Minute)
		}
		if got != itself {
			t.Errorf("refused by itself %v: convicted %v", itself, got)
		}
	}
}

// Three sessions in which most recipients are unknown convict, where that is so of
// the whole day, too. Among others with good ones they are parts of a large list
// that are staler than the rest.
func TestStrikesOfALargeList(t *testing.T) {
	for _, large := range []bool{false, true} {
		s := newScene(t, smtp.New)
		session := func(unknown, valid int) (convicted bool) {
			s.n++
			s.src.Session = ref.Ref(s.n)
			for i := range unknown + valid {
				s.now = s.now.Add(time.Second)
				r := smtp.Recipient{To: fmt.Sprintf("x%d-%d@example.com", s.n, i), Oracle: smtp.Valid, Age: smtp.Cached}
				if i >= valid {
					r.Oracle = smtp.Unknown
				}
				convicted = s.w.Recipient(s.now, s.src, r, false).Convicted || convicted
			}
			return convicted
		}
		convicted := false
		for range 3 {
			for range 3 {
				if large {
					convicted = session(0, 6) || convicted
				}
			}
			convicted = session(7, 5) || convicted
		}
		if convicted == large {
			t.Errorf("large %v: convicted %v", large, convicted)
		}
	}
}
