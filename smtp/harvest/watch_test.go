package harvest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

var start = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

// scene plays events of one source to a Watch on a clock of its own.
type scene struct {
	t   *testing.T
	n   int // recipients so far
	w   *Watch
	now time.Time
	src smtp.Source
}

func newScene(t *testing.T, tier smtp.Tier) *scene {
	return &scene{t: t, w: New(Default, Options{Key: [2]uint64{1, 2}}), now: start,
		src: smtp.Source{Addr: netip.MustParseAddr("203.0.113.7"), Tier: tier}}
}

func (s *scene) rcpt(to string, state smtp.OracleState) (smtp.Conviction, bool) {
	return recipient(s.w, s.now, s.src, smtp.Recipient{To: to, Oracle: state}, false)
}

func recipient(w *Watch, now time.Time, src smtp.Source, r smtp.Recipient, null bool) (smtp.Conviction, bool) {
	a := w.Recipient(now, src, r, null)
	return a.Conviction, a.Convicted
}

// guesses names n new unknown recipients, step apart, and returns after how
// many of them the source was convicted, 0 for never.
func (s *scene) guesses(prefix string, n int, step time.Duration) (at int, c smtp.Conviction) {
	for i := range n {
		s.now = s.now.Add(step)
		if c, ok := s.rcpt(fmt.Sprintf("%s%d@example.com", prefix, i), smtp.Unknown); ok && at == 0 {
			return i + 1, c
		}
	}
	return 0, smtp.Conviction{}
}

func (s *scene) valid(n int) {
	for i := range n {
		if _, ok := s.rcpt(fmt.Sprintf("user%d@example.com", i), smtp.Valid); ok {
			s.t.Error("a valid recipient convicted")
		}
	}
}

// R-BX-13: by the 50th guess by default, whoever the stranger is.
func TestFastGuesserIsConvictedByTheTwentyFifthGuess(t *testing.T) {
	s := newScene(t, smtp.New)
	at, c := s.guesses("g", 100, time.Second)
	if at != 25 {
		t.Fatalf("convicted at guess %d, want 25", at)
	}
	ev := c.Evidence
	if c.Reason != reply.Harvest || ev.Rule != RuleHour || ev.Window != time.Hour || ev.Unknown != 25 || ev.Valid != 0 {
		t.Errorf("conviction %+v", c)
	}
	if len(ev.Guesses) != 25 || ev.Guesses[24] != "g24@example.com" {
		t.Errorf("guesses %q, want all 25, the newest last", ev.Guesses)
	}
}

func TestThresholdsByTier(t *testing.T) {
	for tier, want := range map[smtp.Tier]int{
		smtp.Suspect: 10, smtp.New: 25, smtp.Known: 100, smtp.Trusted: 100, smtp.Protected: 0,
	} {
		if at, _ := newScene(t, tier).guesses("g", 500, time.Second); at != want {
			t.Errorf("%s: convicted at guess %d, want %d", tier, at, want)
		}
	}
}

func TestSlowGuesserIsConvictedByTheDay(t *testing.T) {
	for tier, want := range map[smtp.Tier]int{smtp.Suspect: 25, smtp.New: 50, smtp.Known: 100, smtp.Trusted: 200} {
		at, c := newScene(t, tier).guesses("g", 250, 7*time.Minute) // 8 an hour, 205 a day
		if at != want || c.Evidence.Rule != RuleDay {
			t.Errorf("%s: convicted at guess %d by %q, want %d by %q", tier, at, c.Evidence.Rule, want, RuleDay)
		}
	}
}

// A guesser who mixes in known addresses keeps his share low; the absolute
// rule does not look at it (R-BX-13: always by 1,000).
func TestMixingGuesserMeetsTheAbsoluteRule(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 1000 {
		s.now = s.now.Add(time.Minute)
		s.rcpt(fmt.Sprintf("user%d@example.com", i), smtp.Valid)
		if c, ok := s.rcpt(fmt.Sprintf("g%d@example.com", i), smtp.Unknown); ok {
			if c.Evidence.Rule != RuleAbsolute || i+1 < 300 || i+1 > 320 {
				t.Errorf("convicted at guess %d by %q, want about 310 by %q", i+1, c.Evidence.Rule, RuleAbsolute)
			}
			return
		}
	}
	t.Error("1,000 guesses and no conviction")
}

// R-BX-13: one good address is one acquaintance, however many tags are made up
// for it.
func TestTagsOfOneMailboxHideNoGuesser(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 1000 {
		s.now = s.now.Add(time.Second)
		for j := range 3 {
			s.rcpt(fmt.Sprintf("Jane+%d-%d@example.com", i, j), smtp.Valid)
		}
		if c, ok := s.rcpt(fmt.Sprintf("g%d@example.com", i), smtp.Unknown); ok {
			if i+1 != 26 || c.Evidence.Valid != 1 {
				t.Errorf("convicted at guess %d by %q, %d valid, want 26 and one", i+1, c.Evidence.Rule, c.Evidence.Valid)
			}
			return
		}
	}
	t.Error("1,000 guesses and no conviction")
}

// Nor do they wash out of memory who once was valid.
func TestTagsPushNobodyOut(t *testing.T) {
	s := newScene(t, smtp.New)
	s.w = New(Default, Options{MaxValid: 10})
	s.valid(2)
	for i := range 100 {
		s.rcpt(fmt.Sprintf("jane+%d@example.com", i), smtp.Valid)
	}
	other := smtp.Source{Addr: netip.MustParseAddr("203.0.113.8"), Tier: smtp.New}
	recipient(s.w, s.now, other, smtp.Recipient{To: "user1@example.com", Oracle: smtp.Unknown}, false)
	if got := count(s.w.e.sources.find(sourceKey(other.Addr)).seen(), at(s.now)).day; got.unknown != 0 {
		t.Errorf("somebody who was valid counts as unknown: %+v", got)
	}
}

// R-BX-14: a burst of typos among good recipients.
func TestTyposConvictNobody(t *testing.T) {
	s := newScene(t, smtp.New)
	s.valid(20)
	if at, _ := s.guesses("typo", 5, time.Second); at != 0 {
		t.Errorf("five typos among 25 recipients convicted at %d", at)
	}
}

// The share decides alone: 30 unknown in an hour, with few known recipients
// (convicted) and with many (not).
func TestShareDecides(t *testing.T) {
	few, many := newScene(t, smtp.New), newScene(t, smtp.New)
	few.valid(3)
	many.valid(30)
	if at, _ := few.guesses("g", 40, time.Second); at != 28 { // three credits
		t.Errorf("few known recipients: convicted at guess %d, want 28", at)
	}
	if at, _ := many.guesses("g", 40, time.Second); at != 0 {
		t.Errorf("many known recipients: convicted at guess %d, want never", at)
	}
}

// A known source is convicted only when nearly all of its recipients are unknown.
func TestKnownSourceNeedsAHigherShare(t *testing.T) {
	s := newScene(t, smtp.Known)
	s.valid(20)
	if at, _ := s.guesses("g", 180, time.Second); at != 0 { // 90 %
		t.Errorf("convicted at guess %d, want never", at)
	}
}

func TestRoleAddressesBuyNoCredit(t *testing.T) {
	s := newScene(t, smtp.New)
	for _, r := range []string{"postmaster", "abuse", "info"} {
		s.rcpt(r+"@example.com", smtp.Valid)
	}
	if at, _ := s.guesses("g", 40, time.Second); at != 25 {
		t.Errorf("convicted at guess %d, want 25", at)
	}
}

func TestWhatDoesNotCount(t *testing.T) {
	t.Run("the same unknown again within seven days", func(t *testing.T) {
		s := newScene(t, smtp.New)
		for range 6 {
			if at, _ := s.guesses("g", 20, time.Second); at != 0 {
				t.Fatal("retries convicted")
			}
			s.now = s.now.Add(23 * time.Hour)
		}
	})
	t.Run("what was valid once", func(t *testing.T) {
		s := newScene(t, smtp.New)
		other := s.src
		other.Addr = netip.MustParseAddr("198.51.100.9")
		for i := range 200 {
			recipient(s.w, s.now, other, smtp.Recipient{To: fmt.Sprintf("Old%d@example.com", i), Oracle: smtp.Valid}, false)
		}
		if at, _ := s.guesses("old", 200, time.Second); at != 0 {
			t.Errorf("a stale list was convicted at %d", at)
		}
	})
	t.Run("what the oracle could not tell", func(t *testing.T) {
		s := newScene(t, smtp.New)
		for i := range 500 {
			for _, state := range []smtp.OracleState{smtp.Unavailable, smtp.Any, ""} {
				if _, ok := s.rcpt(fmt.Sprintf("x%d@example.com", i), state); ok {
					t.Fatalf("%q convicted", state)
				}
			}
		}
		if n := s.w.Sources(); n != 0 {
			t.Errorf("%d sources remembered, want none", n)
		}
	})
	t.Run("guesses older than the window", func(t *testing.T) {
		s := newScene(t, smtp.New)
		for i := range 4 { // 96: the week allows 100
			if at, _ := s.guesses(fmt.Sprintf("d%d-", i), 24, time.Second); at != 0 {
				t.Fatalf("convicted in round %d", i)
			}
			s.now = s.now.Add(25 * time.Hour)
		}
	})
}

// Bounces of forged mail and callouts come from the null sender (R-RN-15).
func TestNullSender(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 500 {
		s.now = s.now.Add(time.Second)
		c, ok := recipient(s.w, s.now, s.src, smtp.Recipient{To: fmt.Sprintf("b%d@example.com", i), Oracle: smtp.Unknown}, true)
		if ok {
			if i+1 != Default.NullPerHour || c.Evidence.Rule != RuleNull {
				t.Errorf("convicted at %d by %q, want %d by %q", i+1, c.Evidence.Rule, Default.NullPerHour, RuleNull)
			}
			return
		}
	}
	t.Error("never convicted")
}

// R-RN-15: whom the null sender asks after and who exists, it is told so, be the
// domain under attack and the source slowed for those who do not.
func TestNullSenderIsNeverPutOffForWhoExists(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 300 { // an attack by others
		s.now = s.now.Add(100 * time.Millisecond)
		s.guess(stranger("198.18.%d.7", i%250), false)
	}
	put := false
	for i := range 150 {
		s.now = s.now.Add(time.Second)
		put = put || s.guess(s.src, true).Say == reply.UnderAttack
		a := s.w.Recipient(s.now, s.src, smtp.Recipient{To: fmt.Sprintf("user%d@example.com", i), Oracle: smtp.Valid}, true)
		if a.Say != "" || a.Wait != 0 || a.Convicted {
			t.Fatalf("recipient %d that exists: %+v", i, a)
		}
	}
	if !put {
		t.Error("nor were the unknown ones put off: nothing is shown")
	}
}

// The recipients that a source bounced to and then guesses weigh in full.
func TestNullSenderFirstDoesNotHideGuesses(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 30 {
		recipient(s.w, s.now, s.src, smtp.Recipient{To: fmt.Sprintf("g%d@example.com", i), Oracle: smtp.Unknown}, true)
	}
	if at, _ := s.guesses("g", 30, time.Second); at == 0 {
		t.Error("never convicted")
	}
}

func TestConvictedOnceThenOnlyByFreshGuesses(t *testing.T) {
	s := newScene(t, smtp.New)
	s.guesses("g", 25, time.Second)
	if at, _ := s.guesses("g", 25, time.Second); at != 0 {
		t.Errorf("the same guesses convicted again at %d", at)
	}
	if at, _ := s.guesses("h", 40, 10*time.Second); at != 25 { // not so fast that it is an attack
		t.Errorf("fresh guesses convicted at %d, want 25", at)
	}
}

func TestSourceIsTheAddressOrTheSlash64(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
	} {
		if got := sourceKey(netip.MustParseAddr(c.a)) == sourceKey(netip.MustParseAddr(c.b)); got != c.same {
			t.Errorf("%s and %s: same source %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

// A guesser who rotates through his /64 is one source.
func TestRotatingSlash64(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 25 {
		s.src.Addr = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		if _, ok := s.rcpt(fmt.Sprintf("g%d@example.com", i), smtp.Unknown); ok != (i == 24) {
			t.Fatalf("guess %d: convicted %v", i+1, ok)
		}
	}
}

func TestMemoryIsBoundedAndGuessersStay(t *testing.T) {
	w := New(Default, Options{MaxSources: 100, MaxValid: 100})
	guesser := smtp.Source{Addr: netip.MustParseAddr("203.0.113.7"), Tier: smtp.New}
	for i := range 24 {
		recipient(w, start, guesser, smtp.Recipient{To: fmt.Sprintf("g%d@example.com", i), Oracle: smtp.Unknown}, false)
	}
	for i := range 100_000 {
		src := smtp.Source{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Tier: smtp.New}
		recipient(w, start, src, smtp.Recipient{To: fmt.Sprintf("v%d@example.com", i), Oracle: smtp.Valid}, false)
	}
	if n := w.Sources(); n != 100 {
		t.Errorf("%d sources remembered, want 100", n)
	}
	if n := w.e.valid.len(); n > 100 {
		t.Errorf("%d once-valid recipients remembered, want at most 100", n)
	}
	if _, ok := recipient(w, start, guesser, smtp.Recipient{To: "last@example.com", Oracle: smtp.Unknown}, false); !ok {
		t.Error("100,000 harmless sources washed the guesser away")
	}
}

func TestSourceForgetsItsOldestFirst(t *testing.T) {
	s := &source{}
	for i := range 2 * maxSeen {
		s.see(at(start)+instant(i), uint64(i)<<8, unknown)
	}
	if len(s.seen()) != maxSeen {
		t.Fatalf("%d remembered, want %d", len(s.seen()), maxSeen)
	}
	if s.see(at(start)+2*maxSeen, (2*maxSeen-1)<<8, unknown) {
		t.Error("the newest was forgotten")
	}
}

// The same events give the same convictions: a Watch has no clock, no random
// number and no order of maps in its decisions.
func TestDeterministic(t *testing.T) {
	play := func() (convicted []int) {
		w := New(Default, Options{Key: [2]uint64{3, 4}, MaxSources: 70})
		rng := rand.New(rand.NewPCG(7, 7))
		for i := range 20_000 {
			src := smtp.Source{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(80))}), Tier: smtp.New}
			r := smtp.Recipient{To: fmt.Sprintf("u%d@example.com", rng.IntN(5000)), Oracle: smtp.Unknown}
			if rng.IntN(10) == 0 {
				r = smtp.Recipient{To: fmt.Sprintf("v%d@example.com", rng.IntN(50)), Oracle: smtp.Valid}
			}
			if _, ok := recipient(w, start.Add(time.Duration(i)*100*time.Millisecond), src, r, false); ok {
				convicted = append(convicted, i)
			}
		}
		return convicted
	}
	a, b := play(), play()
	if len(a) == 0 || !reflect.DeepEqual(a, b) {
		t.Errorf("two plays convict at %v and %v", a, b)
	}
}

func BenchmarkRecipient(b *testing.B) {
	w := New(Default, Options{})
	rcpts := make([]smtp.Recipient, 4096)
	for i := range rcpts {
		rcpts[i] = smtp.Recipient{To: fmt.Sprintf("user%d@example.com", i), Oracle: smtp.Unknown}
		if i%2 == 0 {
			rcpts[i].Oracle = smtp.Valid
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n := rng.Uint32()
		src := smtp.Source{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16 & 15), byte(n >> 8), byte(n)}), Tier: smtp.New}
		recipient(w, start.Add(time.Duration(i)*time.Millisecond), src, rcpts[i&4095], false)
	}
}

// While a domain is under attack a stranger is told nothing, not even by how
// long he waits.
func TestUnderAttackTimeTellsNothing(t *testing.T) {
	s := newScene(t, smtp.New)
	for i := range 2 * attackRate { // of a botnet
		bot := smtp.Source{Addr: netip.AddrFrom4([4]byte{198, 51, byte(i), 1}), Tier: smtp.New}
		recipient(s.w, s.now, bot, smtp.Recipient{To: fmt.Sprintf("bot%d@example.com", i), Oracle: smtp.Unknown}, false)
	}
	s.src.Session = 1
	for i := range closeAll / 2 { // from there on the session is closed
		no := s.w.Recipient(s.now, s.src, smtp.Recipient{To: fmt.Sprintf("x%d@example.com", i), Oracle: smtp.Unknown}, false)
		yes := s.w.Recipient(s.now, s.src, smtp.Recipient{To: fmt.Sprintf("user%d@example.com", i), Oracle: smtp.Valid}, false)
		if no.Say != reply.UnderAttack || !reflect.DeepEqual(no, yes) {
			t.Fatalf("recipient %d: %+v of an unknown one, %+v of a valid one", i, no, yes)
		}
	}
}

// What the rules still count is no history yet: held against a guesser, it would
// have him refused before he is convicted.
func TestHistoryIsOlderThanADay(t *testing.T) {
	s := newScene(t, smtp.New)
	if at, _ := s.guesses("g", 24, time.Second); at != 0 {
		t.Fatalf("convicted at %d", at)
	}
	if h := s.w.History(s.now, s.src.Addr); h != nil {
		t.Errorf("guesses of this hour are history: %+v", *h)
	}
	s.now = s.now.Add(25 * time.Hour)
	if h := s.w.History(s.now, s.src.Addr); h == nil || h.Bad != 24 {
		t.Errorf("the guesses of yesterday: %+v", h)
	}
}
