package replay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/harvest"
)

// A guesser has 10,000 guesses, 50 of them right, and an answer a second: he is
// gone by the 25th wrong one, and learns one address at the most, were he
// lucky to have it among the first.
func TestWhatAGuesserLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic in one goroutine: -short (make race) leaves that to make test")
	}
	for _, seed := range append(tuned, untuned...) {
		s := newStage(seed)
		a := addr("203.0.113.7")
		for i := range 10_000 {
			s.now = s.now.Add(time.Second)
			to := fmt.Sprintf("guess%d@example.com", i)
			state := smtp.Unknown
			if s.rng.IntN(200) == 0 {
				state = smtp.Valid
			}
			s.probe(a, "x@bot.example", said{to, state})
		}
		says, _ := play(t, s.lines, s.truth, nil)
		ban, answered, learnt := firstBan(says), 0, 0
		for i := range s.lines {
			if l := &s.lines[i]; ban != nil && !l.Time.After(ban.Time.Time) {
				answered++
				if l.Rcpts[0].Oracle == smtp.Valid {
					learnt++
				}
			}
		}
		if ban == nil || answered > 30 || learnt > 1 {
			t.Errorf("seed %d: %d guesses were answered and %d addresses learnt before the ban %v", seed, answered, learnt, ban)
		}
		t.Logf("seed %d: %d guesses answered, %d valid addresses learnt", seed, answered, learnt)
	}
}

func firstBan(says []any) *replay.Ban {
	for _, v := range says {
		if b, ok := v.(replay.Ban); ok {
			return &b
		}
	}
	return nil
}

// A botnet of 20,000 addresses names two recipients each, fifty a second: after
// the first 5 % at least 90 % of its guesses learn nothing, and no good sender
// is hit.
func TestWhatABotnetLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic in one goroutine: -short (make race) leaves that to make test")
	}
	s := newStage(4711)
	s.office(200)
	var good []netip.Addr
	for i := range 40 {
		good = append(good, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	for i := range 20_000 {
		s.now = s.now.Add(40 * time.Millisecond)
		a := netip.AddrFrom4([4]byte{byte(1 + s.rng.IntN(120)), byte(i >> 8), byte(i), byte(1 + s.rng.IntN(250))})
		s.send(a, "u@bot.example", bad(fmt.Sprintf("n%d@example.com", s.rng.IntN(200_000)), fmt.Sprintf("n%d@example.com", s.rng.IntN(200_000)))...)
		if i%20 == 0 {
			s.send(good[s.rng.IntN(len(good))], "u@firm.example", all(smtp.Valid, []string{person(s.rng.IntN(200))})...)
		}
	}
	s.truth.Never = good
	s.truth.Stopped[netip.MustParsePrefix("0.0.0.0/1")] = 0.9
	s.truth.Alarms = []string{"under_attack"}
	says, _ := play(t, s.lines, s.truth, nil)
	hold(t, s.lines, s.truth, says)
	changed := map[string]replay.Result{}
	for _, v := range says {
		if c, ok := v.(replay.Change); ok {
			changed[c.Ref] = c.Result
		}
	}
	t.Logf("%.2f %% stopped after the first 5 %%", 100*stopped(s.lines, netip.MustParsePrefix("0.0.0.0/1"), changed))
}

// BenchmarkReplay reads and plays a million records, as weir replay does.
func BenchmarkReplay(b *testing.B) {
	const records = 1_000_000
	s := newStage(1)
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for i := range 10_000 {
		s.now = s.now.Add(400 * time.Millisecond)
		to := good(person(s.rng.IntN(500)))
		if i%10 == 0 {
			to = bad(fmt.Sprintf("x%d@example.com", i))
		}
		l := s.line(netip.AddrFrom4([4]byte{10, byte(s.rng.IntN(64)), byte(s.rng.IntN(256)), 7}), "a@b.example", true, to)
		if err := enc.Encode(l); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		p := replay.New(replay.Options{Rules: harvest.Default, Chain: check.Chain(100), Bans: newBans()})
		for range records / 10_000 {
			for l, err := range record.Lines(bytes.NewReader(text.Bytes())) {
				if err != nil {
					b.Fatal(err)
				}
				p.Add(&l)
			}
		}
		if sum, err := p.Play(func(any) error { return nil }); err != nil || sum.Lines != records {
			b.Fatal(sum, err)
		}
	}
}
