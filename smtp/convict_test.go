package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/harvest"
	"mailweir/smtp/reply"
)

// guesser is a world whose watcher convicts at the fifth unknown recipient.
func guesser(t testing.TB, change func(*world)) *world {
	return newWorld(t, func(w *world) {
		w.opts.Watcher = harvest.New(harvest.Rules{UnknownPerHour: 5, SharePerHour: 0.8, UnknownPerDay: 50, SharePerDay: 0.9, AbsolutePerDay: 300}, harvest.Options{})
		if change != nil {
			change(w)
		}
	})
}

// guess sends guesses one by one and returns the last reply.
func guess(c *dialogue, n int) (last string) {
	for i := range n {
		last = c.ask(fmt.Sprintf("RCPT TO:<guess%d@office.example>", i), "550 5.1.1")
	}
	return last
}

// Promise 1 and R-BX-15: the guess that convicts is answered, guard has the
// offender's socket before that, and every live session of the source is reset.
func TestConvictionResetsEverySessionOfTheSource(t *testing.T) {
	w := guesser(t, nil)
	bystander := w.dial("127.0.0.6")
	bystander.open("a@client.example")
	idle := w.dial("127.0.0.5")
	idle.open("a@client.example")
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	said := guess(c, 5)
	if got := w.offender.filed(); !slices.Equal(got, []string{"127.0.0.5"}) {
		t.Fatalf("guard heard of %v when the guess was answered", got)
	}
	for _, d := range []*dialogue{c, idle} {
		if err := d.ended(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			t.Errorf("session ended with %v, want a reset", err)
		}
	}
	bystander.ask("RCPT TO:<alice@office.example>", "250 ")

	got := w.recorder.convictions()
	if len(got) != 1 || !got[0].enforced || got[0].peer.String() != "127.0.0.5" || len(got[0].evidence.Guesses) != 5 {
		t.Fatalf("convictions: %+v", got)
	}
	records := []smtp.Transaction{w.recorder.wait(t, 0), w.recorder.wait(t, 1)}
	slices.SortFunc(records, func(a, b smtp.Transaction) int { return strings.Compare(string(a.Reason), string(b.Reason)) })
	other, convicting := records[0], records[1]
	if convicting.Facts.Ref != got[0].ref || convicting.Outcome != smtp.Dropped || convicting.Reason != reply.Harvest {
		t.Errorf("convicting transaction: %s %s, ref %v", convicting.Outcome, convicting.Reason, convicting.Facts.Ref)
	}
	if line := convicting.Facts.Rcpts[4].Reply.Line(); line != said {
		t.Errorf("the record has %q, the client read %q", line, said)
	}
	if other.Outcome != smtp.Dropped || other.Reason != reply.Banned {
		t.Errorf("the other session: %s %s", other.Outcome, other.Reason)
	}
}

// Pipelined guesses get their answers up to the one that convicts, and the
// oracle is not asked for the rest.
func TestConvictionEndsAPipeline(t *testing.T) {
	w := guesser(t, nil)
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	var all strings.Builder
	for i := range 60 {
		fmt.Fprintf(&all, "RCPT TO:<guess%d@office.example>\r\n", i)
	}
	c.send(all.String())
	r := w.recorder.wait(t, 0)
	if len(r.Facts.Rcpts) != 5 || r.Outcome != smtp.Dropped {
		t.Errorf("%d guesses were looked at, outcome %s", len(r.Facts.Rcpts), r.Outcome)
	}
}

func TestProtectedSourceIsNeverConvicted(t *testing.T) {
	w := guesser(t, nil)
	c := w.dial("127.0.0.99")
	c.open("a@client.example")
	guess(c, 20)
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	if got := w.offender.filed(); len(got) != 0 {
		t.Errorf("offences of %v", got)
	}
}

// Observe: the evidence is kept, nobody is dropped.
func TestObserveConvictsNobody(t *testing.T) {
	w := guesser(t, func(w *world) { w.opts.Policy.Observe = true })
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	guess(c, 6)
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	c.ask("DATA", "354")
	c.ask("\r\n.", "250 ")
	got := w.recorder.convictions()
	if len(got) != 1 || got[0].left != smtp.LeftObserve || len(w.offender.filed()) != 0 {
		t.Fatalf("convictions %+v, offences %v", got, w.offender.filed())
	}
	r := w.recorder.wait(t, 0)
	i := slices.IndexFunc(r.Checks, func(c smtp.Check) bool { return c.Name == "harvest" })
	if r.Outcome != smtp.Accepted || i < 0 || r.Checks[i].Action != reply.Log || r.Checks[i].Reason != reply.Harvest {
		t.Errorf("outcome %s, checks %+v", r.Outcome, r.Checks)
	}
	if st := w.server.Stats(); st.Spared[reply.Harvest] != 1 || st.Reasons[reply.Harvest] != 0 || st.Reasons[reply.UnknownUser] == 0 {
		t.Errorf("refused %v, spared %v", st.Reasons, st.Spared)
	}
}

// What guard protects and we do not know of: nothing happens to it (promise 5).
func TestSourceSparedByGuard(t *testing.T) {
	w := guesser(t, nil)
	w.offender.err = fmt.Errorf("an allow entry: %w", smtp.ErrSpared)
	other := w.dial("127.0.0.5")
	other.expect("220 ")
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	guess(c, 6)
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	other.ask("NOOP", "250 ")
	w.dial("127.0.0.5").expect("220 ")
	if got := w.recorder.convictions(); len(got) != 1 || got[0].enforced || got[0].left != smtp.LeftProtected {
		t.Errorf("convictions: %+v", got)
	}
}

// gateFunc is a Gate that says whom it refuses.
type gateFunc func(netip.Addr) bool

func (g gateFunc) Banned(a netip.Addr) (smtp.Standing, bool) { return smtp.Standing{}, g(a) }

// A guard that does not answer: the source's next connection files the offence
// again, once it spoke, and ends; also where the gate stands in for the kernel.
func TestOffenceIsFiledAgain(t *testing.T) {
	var missed atomic.Bool // the kernel misses it, and so the gate stands in
	w := guesser(t, func(w *world) { w.opts.Gate = gateFunc(func(netip.Addr) bool { return missed.Load() }) })
	w.offender.err = errors.New("guard is being restarted")
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	guess(c, 5)
	c.ended()
	w.recorder.wait(t, 0)
	if got := w.recorder.convictions(); len(got) != 1 || got[0].enforced || got[0].left != smtp.LeftGuard {
		t.Fatalf("convictions: %+v", got)
	}
	missed.Store(true)
	again := func() {
		c := w.dial("127.0.0.5")
		c.expect("220 ")
		c.ask("HELO client.example", "250 ")
		c.ended()
	}
	again()
	w.recorder.wait(t, 1)
	w.offender.mu.Lock()
	w.offender.err = nil
	w.offender.mu.Unlock()
	again()
	if got := w.offender.filed(); !slices.Equal(got, []string{"127.0.0.5"}) {
		t.Fatalf("offences of %v, want one", got)
	}
	w.refused("127.0.0.5") // nothing is owed, and the gate stands
	missed.Store(false)
	w.dial("127.0.0.5").expect("220 ") // from here on the kernel's matter
	for i, want := range []reply.Reason{reply.Harvest, reply.Banned, reply.Banned, reply.Banned} {
		if r := w.recorder.wait(t, i); r.Outcome != smtp.Dropped || r.Reason != want {
			t.Errorf("record %d: %s %s, want dropped %s", i, r.Outcome, r.Reason, want)
		}
	}
}

// ResetSource is for bans that were made elsewhere.
func TestResetSource(t *testing.T) {
	w := newWorld(t, nil)
	in1, in2, out := w.dial("127.0.3.1"), w.dial("127.0.3.2"), w.dial("127.0.4.1")
	for _, c := range []*dialogue{in1, in2, out} {
		c.open("a@client.example")
	}
	if n := w.server.ResetSource(netip.MustParsePrefix("127.0.3.0/24")); n != 2 {
		t.Errorf("%d sessions reset, want 2", n)
	}
	in1.ended()
	in2.ended()
	out.ask("RCPT TO:<alice@office.example>", "250 ")
}

// onFile is a backend whose recipients are known without asking it.
type onFile struct{ backend }

func (o onFile) Recall(to address.Mailbox) (smtp.Answer, bool) {
	if o.sink.knows(to.Local) {
		return smtp.Answer{State: smtp.Valid, Age: smtp.Live}, true
	}
	return smtp.Answer{State: smtp.Unknown, Age: smtp.Live, Reason: reply.UnknownUser, Reply: reply.UnknownUser.Reply()}, true
}

// Who is refused for what he is hears the same of everybody he names, costs the
// backend nothing, and is counted all the same (smtp-filter.md section 2, RCPT b).
func TestGuesserWithoutANameIsConvicted(t *testing.T) {
	w := guesser(t, func(w *world) {
		w.policy("rdns", "missing")
		w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: onFile{backend{w.office}}, Deliverer: backend{w.office}}}
	})
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@office.example>", "550 5.7.25")
	for i := range 3 {
		c.ask(fmt.Sprintf("RCPT TO:<guess%d@office.example>", i), "550 5.7.25")
	}
	if got := w.offender.filed(); len(got) != 0 {
		t.Fatalf("one recipient of four is there, and guard heard of %v", got)
	}
	c.ask("RCPT TO:<guess3@office.example>", "550 5.7.25") // a suspect needs fewer, at the same share
	if got := w.offender.filed(); !slices.Equal(got, []string{"127.0.0.5"}) {
		t.Fatalf("guard heard of %v", got)
	}
	r := w.recorder.wait(t, 0)
	if k := r.Facts.Rcpts; k[0].Oracle != smtp.Valid || k[1].Oracle != smtp.Unknown || k[0].Reason != k[1].Reason {
		t.Errorf("the record has %+v", k[:2])
	}
}

// sickDirectory is a Canary that believes no directory.
type sickDirectory struct{}

func (sickDirectory) Sick(context.Context, string) (string, smtp.OracleState) {
	return "alice is refused", smtp.Unknown
}

// Nobody is banned by what a broken directory says: the client hears 451, the
// watcher takes the conviction back, and the record has what the canary said.
func TestOverturnedConviction(t *testing.T) {
	a := &adviser{advice: smtp.Advice{Convicted: true, Conviction: smtp.Conviction{Reason: reply.Harvest}}}
	w := newWorld(t, func(w *world) { w.opts.Watcher, w.opts.Canary = a, sickDirectory{} })
	c := w.dial("127.0.0.5")
	c.open("a@client.example")
	c.ask("RCPT TO:<guess@Office.example>", "451 4.4.3")
	c.ask("RSET", "250 ")
	if got := w.offender.filed(); len(got) != 0 {
		t.Errorf("guard heard of %v", got)
	}
	if got := w.recorder.convictions(); len(got) != 1 || got[0].enforced {
		t.Errorf("convictions: %+v", got)
	}
	if r := w.recorder.wait(t, 0).Facts.Rcpts[0]; r.Canary != smtp.Unknown || r.Oracle != smtp.Unavailable {
		t.Errorf("the record says oracle %q, canary %q", r.Oracle, r.Canary)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.back, []string{"office.example"}) {
		t.Errorf("overturned for %q", a.back)
	}
}
