package smtp_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// adviser is a Watcher that says what it is told to.
type adviser struct {
	mu       sync.Mutex
	advice   smtp.Advice
	away     bool // the source was convicted while it was away
	panics   bool
	outcomes []smtp.Outcome
	back     []string // domains whose convictions were overturned
}

func (a *adviser) Connected(time.Time, smtp.Source) (smtp.Conviction, bool) {
	return smtp.Conviction{Reason: reply.Complaint}, a.away
}

func (a *adviser) Recipient(time.Time, smtp.Source, smtp.Recipient, bool) smtp.Advice {
	if a.panics {
		panic("the watcher is sick")
	}
	return a.advice
}

func (a *adviser) Overturned(_ time.Time, _ smtp.Source, domain string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.back = append(a.back, domain)
}

func (a *adviser) Tier(_ time.Time, _ netip.Addr, given smtp.Tier) smtp.Tier { return given }

func (a *adviser) History(time.Time, netip.Addr) *smtp.History { return nil }

func (a *adviser) Finished(_ time.Time, _ smtp.Source, o smtp.Outcome, _ reply.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outcomes = append(a.outcomes, o)
}

func advised(t *testing.T, a *adviser, observe bool) *world {
	return newWorld(t, func(w *world) { w.opts.Watcher, w.opts.Policy.Observe = a, observe })
}

func TestAdviceTakesThePlaceOfTheVerdict(t *testing.T) {
	a := &adviser{advice: smtp.Advice{Say: reply.UnderAttack}}
	w := advised(t, a, false)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<nobody@office.example>", "451 4.7.1")
	c.ask("RCPT TO:<alice@office.example>", "451 4.7.1")
	c.ask("RSET", "250 ")
	if r := w.recorder.wait(t, 0); r.Reason != reply.UnderAttack || r.Facts.Rcpts[0].Oracle != smtp.Unknown {
		t.Errorf("record: %s, oracle %s", r.Reason, r.Facts.Rcpts[0].Oracle)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.outcomes) != 1 || a.outcomes[0] != smtp.Deferred {
		t.Errorf("the watcher heard of %v", a.outcomes)
	}
}

func TestAdviceEndsTheSession(t *testing.T) {
	w := advised(t, &adviser{advice: smtp.Advice{Say: reply.TooManyUnknown}}, false)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<nobody@office.example>", "421 4.7.0")
	c.ended()
}

func TestObserveTakesNoAdvice(t *testing.T) {
	w := advised(t, &adviser{away: true, advice: smtp.Advice{Say: reply.UnderAttack, Wait: time.Hour}}, true)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	c.ask("RSET", "250 ")
	r := w.recorder.wait(t, 0)
	logged := 0
	for _, check := range r.Checks {
		if check.Action == reply.Log {
			logged++
		}
	}
	if logged != 2 {
		t.Errorf("checks %+v, want the conviction and the advice as log", r.Checks)
	}
}

// A domain that observes by itself takes none either, and others do.
func TestADomainThatObservesTakesNoAdvice(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.opts.Watcher = &adviser{advice: smtp.Advice{Say: reply.UnderAttack}}
		only := w.opts.Policy.Chain
		only.Observe = true
		w.opts.Policy.Domains = map[string]smtp.Chain{"office.example": only}
	})
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	c.ask("RCPT TO:<alice@branch.example>", "451 4.7.1")
	if st := w.server.Stats(); st.Spared[reply.UnderAttack] != 1 || st.Reasons[reply.UnderAttack] != 1 {
		t.Errorf("refused %v, spared %v", st.Reasons, st.Spared)
	}
}

// Waiting for its answer, a session still ends with its connection.
func TestHeldAnswerEndsWithTheConnection(t *testing.T) {
	w := advised(t, &adviser{advice: smtp.Advice{Wait: time.Hour}}, false)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.send("RCPT TO:<alice@office.example>\r\n")
	for deadline := time.Now().Add(patienceOfTests); w.server.ResetSource(loopback) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no session to reset")
		}
	}
	w.recorder.wait(t, 0)
}

// Convicted while it was away: the offence is filed when it comes and speaks,
// not before, since guard believes none of a source that sent nothing.
func TestConvictedWhileAway(t *testing.T) {
	w := advised(t, &adviser{away: true}, false)
	c := w.dial("127.0.0.5")
	c.expect("220 ")
	if got := w.offender.filed(); len(got) != 0 {
		t.Errorf("offences %v before it spoke", got)
	}
	c.send("EHLO client.example\r\n")
	r := w.recorder.wait(t, 0)
	if r.Outcome != smtp.Dropped || r.Reason != reply.Complaint || len(w.offender.filed()) != 1 {
		t.Errorf("record: %s %s, offences %v", r.Outcome, r.Reason, w.offender.filed())
	}
}

// Promise 3: a fault of the watcher's costs nobody anything.
func TestSickWatcher(t *testing.T) {
	w := advised(t, &adviser{panics: true}, false)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	c.ask("RCPT TO:<nobody@office.example>", "550 5.1.1")
}

// Whatever a watcher says: whom the operator protects is never filed.
func TestProtectedSourceIsNotOffended(t *testing.T) {
	w := advised(t, &adviser{away: true}, false)
	c := w.dial("127.0.0.99")
	c.expect("220 ")
	c.ask("HELO client.example", "250 ")
	if got := w.recorder.convictions(); len(got) != 1 || got[0].enforced || len(w.offender.filed()) != 0 {
		t.Errorf("convictions %+v, offences %v", got, w.offender.filed())
	}
}
