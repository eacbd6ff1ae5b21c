package replay_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mailweir/firewall"
	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/harvest"
	"mailweir/smtp/reply"
)

// stage is where a scene is made: records of a made-up past, and the truth of
// who has to be banned.
type stage struct {
	rng   *rand.Rand
	now   time.Time
	lines []record.Line
	truth truth
	n     int
}

// truth is what a scene says of its actors.
type truth struct {
	// Banned must be, by their n-th distinct unknown recipient at the latest.
	Banned map[netip.Addr]int `json:"banned,omitempty"`
	// Stopped: of the unknown recipients named from within a prefix, after the
	// first 5 % at least this share hears no answer of the directory.
	Stopped map[netip.Prefix]float64 `json:"stopped,omitempty"`
	// Never may not be banned.
	Never []netip.Addr `json:"never,omitempty"`
	// Alarms must be raised.
	Alarms []string `json:"alarms,omitempty"`
	// Protected are the operator's word.
	Protected []netip.Prefix `json:"protected,omitempty"`
}

func newStage(seed uint64) *stage {
	return &stage{
		rng: rand.New(rand.NewPCG(seed, seed^0x5eed)), now: time.Date(2026, 11, 2, 6, 0, 0, 0, time.UTC),
		truth: truth{Banned: map[netip.Addr]int{}, Stopped: map[netip.Prefix]float64{}},
	}
}

// after moves the clock by about d.
func (s *stage) after(d time.Duration) {
	s.now = s.now.Add(d*3/4 + time.Duration(s.rng.Int64N(int64(d)/2+1)))
}

// said is a recipient and what the directory said of it.
type said struct {
	to    string
	state smtp.OracleState
}

func good(to ...string) (list []said) { return all(smtp.Valid, to) }
func bad(to ...string) (list []said)  { return all(smtp.Unknown, to) }
func all(state smtp.OracleState, to []string) (list []said) {
	for _, t := range to {
		list = append(list, said{t, state})
	}
	return list
}

// send writes down one transaction; a message came if a recipient was taken.
func (s *stage) send(peer netip.Addr, from string, rcpts ...said) *record.Line {
	s.lines = append(s.lines, s.line(peer, from, true, rcpts))
	return &s.lines[len(s.lines)-1]
}

// probe writes down a transaction that ends before a message.
func (s *stage) probe(peer netip.Addr, from string, rcpts ...said) {
	s.lines = append(s.lines, s.line(peer, from, false, rcpts))
}

func (s *stage) line(peer netip.Addr, from string, message bool, rcpts []said) record.Line {
	s.n++
	l := record.Line{
		V: 1, Ref: fmt.Sprintf("MADE-%04d-%04d", s.n/10000, s.n%10000), Session: fmt.Sprintf("SESS-%08d", s.n), Node: "mx1",
		Time: record.Time{Time: s.now.Truncate(time.Millisecond)}, Ms: new(record.Millis(100 + 50*len(rcpts))),
		Peer: peer, HELO: "mail.sender.example", MailFrom: &from, Outcome: smtp.Aborted, Reason: new(reply.Reason("")),
	}
	taken := false
	for i, r := range rcpts {
		k := record.Rcpt{T: record.Millis(20 + 50*i), To: r.to, Oracle: r.state, Age: smtp.Live}
		said := reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 1, 5}, Text: "ok"}
		if r.state == smtp.Unknown {
			said, k.Reason = reply.UnknownUser.Reply(), reply.UnknownUser
		} else {
			taken = true
		}
		k.Reply = &said
		l.Rcpts = append(l.Rcpts, k)
	}
	switch {
	case taken && message:
		l.Outcome, l.Size, l.MessageID, l.Backend, l.BackendReply = smtp.Accepted, 4096, "<m@x>", "office", "250 2.0.0 ok"
	case !taken:
		l.Outcome, l.Reason = smtp.Rejected, new(reply.UnknownUser)
	}
	return l
}

// office is a past in which the domain's mailboxes got mail from a source, so
// that they are known to exist.
func (s *stage) office(people int) {
	for i := range people {
		s.after(time.Minute)
		s.send(addr("192.0.2.200"), "list@partner.example", good(person(i))...)
	}
}

func person(i int) string { return fmt.Sprintf("person%d@example.com", i) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// bans are guard's ledger on the clock of the lines.
type bans struct {
	ledger *firewall.Ledger
	now    time.Time
}

func newBans() *bans {
	b := &bans{}
	b.ledger = firewall.NewLedger(firewall.Terms{}, func() time.Time { return b.now })
	return b
}

func (b *bans) Convict(now time.Time, a netip.Addr, why reply.Reason, r ref.Ref, widest int) (netip.Prefix, time.Time, bool) {
	b.now = now
	reason, err := firewall.ParseReason(string(why))
	if err != nil {
		panic(err)
	}
	s := b.ledger.ConvictNetwork(a, reason, r, widest)
	return s.Ban.Prefix, s.Ban.Until, s.New
}

func (b *bans) Banned(now time.Time, a netip.Addr) bool {
	b.now = now
	_, banned := b.ledger.Banned(a)
	return banned
}

func prefixOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// play replays lines under the defaults and returns everything said.
func play(t testing.TB, lines []record.Line, tr truth, change func(*replay.Options)) (says []any, sum replay.Summary) {
	t.Helper()
	o := replay.Options{
		Rules: harvest.Default, Chain: check.Chain(100), Bans: newBans(),
		Tier: func(a netip.Addr) smtp.Tier {
			if slices.ContainsFunc(tr.Protected, func(p netip.Prefix) bool { return p.Contains(a) }) {
				return smtp.Protected
			}
			return smtp.New
		},
	}
	if change != nil {
		change(&o)
	}
	p := replay.New(o)
	for i := range lines {
		p.Add(&lines[i])
	}
	sum, err := p.Play(func(v any) error { says = append(says, v); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return says, sum
}

// hold holds what was said against the truth.
func hold(t *testing.T, lines []record.Line, tr truth, says []any) {
	t.Helper()
	var bans []replay.Ban
	alarms := map[string]bool{}
	changed := map[string]replay.Result{}
	for _, v := range says {
		switch v := v.(type) {
		case replay.Ban:
			bans = append(bans, v)
		case replay.Alarm:
			alarms[v.Alarm] = true
		case replay.Change:
			changed[v.Ref] = v.Result
		}
	}
	firstOf := func(a netip.Addr) (replay.Ban, bool) {
		for _, b := range bans {
			if b.Ban.Contains(a) {
				return b, true
			}
		}
		return replay.Ban{}, false
	}
	for a, most := range tr.Banned {
		b, ok := firstOf(a)
		if !ok {
			t.Errorf("%v was never banned, want by guess %d", a, most)
		} else if n := guessesUntil(lines, a, b.Time.Time); n > most {
			t.Errorf("%v was banned at guess %d by %s, want by %d", a, n, b.Evidence.Rule, most)
		}
	}
	for _, a := range tr.Never {
		if b, ok := firstOf(a); ok {
			t.Errorf("%v was banned at %v for %s by %s: %d unknown, %d valid", a, b.Time, b.Reason, b.Evidence.Rule, b.Evidence.Unknown, b.Evidence.Valid)
		}
	}
	for _, name := range tr.Alarms {
		if !alarms[name] {
			t.Errorf("no alarm %q, got %v", name, alarms)
		}
	}
	for p, want := range tr.Stopped {
		if got := stopped(lines, p, changed); got < want {
			t.Errorf("%.1f %% of the guesses of %v were stopped after the first 5 %%, want %.0f", 100*got, p, 100*want)
		}
	}
}

// guessesUntil counts the distinct unknown recipients that a source named up to
// a moment.
func guessesUntil(lines []record.Line, a netip.Addr, until time.Time) int {
	names := map[string]bool{}
	for i := range lines {
		l := &lines[i]
		for _, r := range l.Rcpts {
			at := l.Time.Add(time.Duration(r.T) * time.Millisecond)
			if prefixOf(l.Peer) == prefixOf(a) && r.Oracle == smtp.Unknown && !at.After(until) {
				names[r.To] = true
			}
		}
	}
	return len(names)
}

// stopped is the share of a prefix's guesses, after the first 5 %, that learnt
// nothing: dropped, or told to come again.
func stopped(lines []record.Line, p netip.Prefix, changed map[string]replay.Result) float64 {
	total, learnt := 0, 0
	var guesses []string
	for i := range lines {
		if p.Contains(lines[i].Peer) {
			guesses = append(guesses, lines[i].Ref)
		}
	}
	for _, name := range guesses[len(guesses)/20:] {
		total++
		if r, ok := changed[name]; !ok || r.Outcome == smtp.Rejected {
			learnt++
		}
	}
	return 1 - float64(learnt)/float64(total)
}

// stripped is a line as it looks without what was decided.
func stripped(t testing.TB, l record.Line) record.Line {
	t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"checks", "score", "outcome", "reason", "tier"} {
		delete(m, k)
	}
	if b, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	var out record.Line
	if err := out.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return out
}
