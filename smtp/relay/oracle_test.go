package relay

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestVerifyLive: a recipient is asked at the backend, from the null sender and
// without a message (R-BW-15).
func TestVerifyLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{ehlo: []string{"PIPELINING"}, answer: only("u1", "u2")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("u1"), "valid live")
		want(t, r.state("u1"), "valid cached")
		a := r.verify("nobody")
		want(t, string(a.State)+" "+string(a.Age), "unknown live")
		if a.Reason != reply.UnknownUser || a.Reply.Code != 550 {
			t.Errorf("an unknown user is answered %v (%s)", a.Reply, a.Reason)
		}
		want(t, r.state("nobody"), "unknown cached")
		if s.conns != 1 || s.count("DATA") != 0 || s.count("MAIL FROM:<>") != s.count("RCPT") {
			t.Errorf("%d connections, heard %q", s.conns, s.log)
		}
	})
}

// TestAgeOfYes walks the life of a yes as smtp-filter §2 has it.
func TestAgeOfYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		asked := func() int { synctest.Wait(); return s.count("RCPT TO:<u1@") }
		want(t, r.state("u1"), "valid live")
		time.Sleep(23 * time.Hour)
		want(t, r.state("u1"), "valid cached")
		if asked() != 1 {
			t.Error("a yes under a day old was asked again")
		}
		time.Sleep(2 * time.Hour)
		want(t, r.state("u1"), "valid cached")
		if asked() != 2 {
			t.Error("a yes over a day old was not refreshed in the background")
		}

		s.set(only()) // the mailbox is removed
		time.Sleep(25 * time.Hour)
		want(t, r.state("u1"), "valid cached") // and asked in the background: the first no
		asked()
		time.Sleep(9 * time.Minute)
		want(t, r.state("u1"), "valid cached")
		if asked() != 3 {
			t.Error("the second no was asked for before its time")
		}
		time.Sleep(2 * time.Minute)
		want(t, r.state("u1"), "valid cached") // asked again: the second no, 11 minutes after the first
		asked()
		want(t, r.state("u1"), "unknown cached")
	})
}

// TestOldYes: over a week old it is asked before it is spoken, serves for a
// month while the backend is away, and a first no is not yet the truth.
func TestOldYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1", "u2")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		r.verify("u1")
		r.verify("u2")
		time.Sleep(8 * 24 * time.Hour)
		want(t, r.state("u1"), "valid live")
		s.setDown(errRefused)
		time.Sleep(maxIdle) // of the connection that is still there
		want(t, r.state("u2"), "valid cached")
		a := r.verify("stranger")
		want(t, a.Reply.Line(), "451 4.4.3 Recipient cannot be verified right now, try again later")
		s.setDown(nil)
		s.set(only())
		time.Sleep(time.Minute)
		want(t, r.state("u2"), "valid cached") // a first no
		time.Sleep(11 * time.Minute)
		want(t, r.state("u2"), "unknown live")
		s.setDown(errRefused)
		time.Sleep(32 * 24 * time.Hour)
		want(t, r.state("u1"), "unavailable live")
	})
}

// TestNoIsSpokenFresh: a mailbox may be new, so a no is asked again after a
// minute.
func TestNoIsSpokenFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only()}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("new"), "unknown live")
		s.set(only("new"))
		time.Sleep(59 * time.Second)
		want(t, r.state("new"), "unknown cached")
		time.Sleep(2 * time.Second)
		want(t, r.state("new"), "valid live")
	})
}

// TestOneQuestionAnAddress: who asks for what is being asked waits for its
// answer, and the questions to one backend are bounded.
func TestOneQuestionAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1"), delay: func(c string) time.Duration {
			if strings.HasPrefix(c, "RCPT") {
				return time.Second
			}
			return 0
		}}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { r.verify("u1") })
		}
		all.Wait()
		if n := s.count("RCPT TO:<u1@"); n != 1 {
			t.Errorf("one address was asked %d times at once", n)
		}
		for i := range 100 {
			all.Go(func() { r.verify(fmt.Sprintf("g%d", i)) })
		}
		all.Wait()
		if s.most > verifyConnections || s.most < 2 {
			t.Errorf("%d connections at once, want up to %d", s.most, verifyConnections)
		}
	})
}

// TestLanes: strangers who make the backend slow leave room for known senders.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1"), delay: func(c string) time.Duration {
			if strings.HasPrefix(c, "RCPT TO:<g") {
				return 10 * time.Second
			}
			return 0
		}}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() { r.verify(fmt.Sprintf("g%d", i)) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		if a := r.route.Oracle.Verify(ctx, box("u1")); a.State != smtp.Valid || time.Since(begun) > 3*time.Second {
			t.Errorf("a known sender heard %s after %v", a.State, time.Since(begun))
		}
		all.Wait()
	})
}

// TestNoesPerConnection: a connection is renewed before the server punishes it
// for errors (Postfix: slow from 10, closed at 20).
func TestNoesPerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{ehlo: []string{"PIPELINING"}, answer: only()}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		for i := range 40 {
			r.verify(fmt.Sprintf("g%d", i))
		}
		synctest.Wait()
		if s.conns < 5 || s.conns > 6 {
			t.Errorf("%d connections for 40 noes, want one for 8", s.conns)
		}
		if s.count("QUIT") != 5 {
			t.Errorf("said QUIT %d times, want 5", s.count("QUIT"))
		}
	})
}

// TestIdleConnectionClosed: one that the server closed meanwhile costs nobody
// his answer.
func TestIdleConnectionClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1", "u2")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("u1"), "valid live")
		synctest.Wait() // for the probe
		gone := false
		s.set(func(c string) string {
			if c == "RSET" && !gone {
				gone = true
				return "421 4.4.2 idle for too long"
			}
			return only("u1", "u2")(c)
		})
		time.Sleep(10 * time.Second)
		want(t, r.state("u2"), "valid live")
		if !gone {
			t.Error("the idle connection was not used")
		}
	})
}

// TestAcceptAll: the yes of a backend that takes everybody means nothing; those
// seen delivered are known (smtp-filter §4, safety).
func TestAcceptAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("u1"), "any live")
		want(t, r.state("u1"), "any cached")
		for i := range 50 {
			want(t, r.state(fmt.Sprintf("g%d", i)), "any cached")
		}
		if n := s.count("RCPT"); n != 2 {
			t.Errorf("%d questions, want the first recipient and one probe", n)
		}
		want(t, r.send("hello\r\n", "u1").Reply.Line(), "250 2.0.0 Message accepted")
		want(t, r.state("u1"), "valid cached")
		st := r.router.Status(r.memory)
		if !st.Domains[0].AcceptAll || len(st.Alarms) != 1 || st.Alarms[0].Name != "accept_all" {
			t.Errorf("status does not tell: %+v", st)
		}
		s.set(only("u1"))
		time.Sleep(61 * time.Minute)
		r.verify("g1") // begins the next probe
		synctest.Wait()
		want(t, r.state("g2"), "unknown live")
	})
}

// TestAcceptAllBehindAList: a list tells guesses from real addresses, so there is
// nothing to see to when its backend takes everybody.
func TestAcceptAllBehindAList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, nil, path, "u1\n")
	r := newRig(t, "file:"+path, "", &fake{})
	defer r.stop()
	if c, ok := r.router.Probe(t.Context(), "example.com"); !ok || !c.AcceptAll() {
		t.Fatalf("the backend was not asked: %+v", c)
	}
	if st := r.router.Status(r.memory); !st.Domains[0].AcceptAll || len(st.Alarms) != 0 {
		t.Errorf("status: %+v", st)
	}
}

// TestBecomesAcceptAll: what was taken since a yes last meant something is
// forgotten, what was known before is not.
func TestBecomesAcceptAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1", "u2")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		time.Sleep(time.Second)
		r.memory.cache.accept(box("before"), time.Now())
		time.Sleep(time.Second)
		want(t, r.state("u1"), "valid live") // and the probe is refused
		s.set(nil)
		time.Sleep(10 * time.Minute)
		want(t, r.state("guess"), "valid live") // nobody knows yet
		time.Sleep(time.Hour)
		r.verify("other") // begins the next probe
		synctest.Wait()
		want(t, r.state("guess"), "any cached")
		want(t, r.state("other"), "any cached")
		want(t, r.state("before"), "valid cached")
	})
}

// TestAnswerTooMany: it must not be taken for that of the next command, or a
// guess would be taken, and in the end a message that was not. Nobody can tell
// which of the answers is the one too many, so none of them counts.
func TestAnswerTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{ehlo: []string{"PIPELINING"}, answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT TO:<u1@") {
				return "250 2.1.5 ok\r\n250 2.1.5 ok"
			}
			return only("u1")(c)
		}}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("u1"), "unavailable live")
		want(t, r.state("nobody"), "unknown live")
	})
}

// TestTwoNoesApart: two noes within minutes are one.
func TestTwoNoesApart(t *testing.T) {
	c := newCache()
	now := time.Now()
	c.accept(box("u1"), now)
	for _, step := range []struct {
		after    time.Duration
		survives bool
	}{{0, true}, {time.Minute, true}, {noApart - time.Second, true}, {noApart, false}, {noApart, false}} {
		if got := c.refuse(box("u1"), finding{at: now.Add(step.after)}); got != step.survives {
			t.Errorf("a no after %v: survives %v", step.after, got)
		}
	}
}

// TestCanaryTellsAccessDenied: Exchange Online says the same for an unknown user
// and for a tenant that lets nobody in.
func TestCanaryTellsAccessDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deny := func(good ...string) func(string) string {
			return func(c string) string {
				if a := only(good...)(c); a != "" {
					return "550 5.4.1 Recipient address rejected: Access denied. AS(201806281) [X.eurprd02.prod.outlook.com]"
				}
				return ""
			}
		}
		s := &fake{answer: deny("u1")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("guess"), "unavailable live") // nobody is known yet
		r.memory.cache.accept(box("u1"), time.Now())
		want(t, r.state("guess"), "unknown live")
		s.set(deny())
		time.Sleep(2 * time.Hour)
		want(t, r.state("guess2"), "unavailable live")
	})
}

// TestProbe is the canary that harvest will send before it convicts.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		r.verify("u1")
		probe := func() Canary {
			c, ok := r.router.Probe(t.Context(), "example.com")
			if !ok {
				t.Fatal("no route")
			}
			return c
		}
		if c := probe(); !c.Healthy() || c.Broken() || c.AcceptAll() {
			t.Errorf("healthy directory: %+v", c)
		}
		s.set(only())
		if c := probe(); c.Healthy() || !c.Broken() || !strings.Contains(c.Words, "User unknown") {
			t.Errorf("directory that knows nobody: %+v", c)
		}
		s.set(nil)
		if c := probe(); c.Healthy() || !c.AcceptAll() {
			t.Errorf("directory that takes all: %+v", c)
		}
		if _, ok := r.router.Probe(t.Context(), "other.example"); ok {
			t.Error("a domain without route was probed")
		}
	})
}

// TestManyClosedMailboxesAreNoBrokenDirectory: four of five were removed on one day.
func TestManyClosedMailboxesAreNoBrokenDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("a", "b", "c", "d", "e")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		for _, who := range []string{"a", "b", "c", "d", "e"} { // the latest is asked first
			r.verify(who)
			time.Sleep(time.Minute)
		}
		s.set(only("a"))
		if c, _ := r.router.Probe(t.Context(), "example.com"); !c.Healthy() {
			t.Errorf("four mailboxes are gone: %+v", c)
		}
		s.set(only())
		if c, _ := r.router.Probe(t.Context(), "example.com"); !c.Broken() {
			t.Errorf("all are: %+v", c)
		}
	})
}

// TestOneClosedMailboxIsNoBrokenDirectory: who owns a mailbox could have it
// closed right after its mail, and guess for as long as the canary names it.
func TestOneClosedMailboxIsNoBrokenDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("old", "mine")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		r.verify("old")
		time.Sleep(time.Hour)
		r.verify("mine")
		s.set(only("old"))
		for range 2 { // the second time it is not the first to be asked
			if c, _ := r.router.Probe(t.Context(), "example.com"); !c.Healthy() || c.Broken() {
				t.Errorf("one mailbox is gone: %+v", c)
			}
		}
		if to, _ := r.memory.cache.good("example.com", address.Mailbox{}); to != box("old") {
			t.Errorf("the next canary is %v", to)
		}
		s.set(only())
		if c, _ := r.router.Probe(t.Context(), "example.com"); !c.Broken() {
			t.Errorf("all are gone: %+v", c)
		}
	})
}

// TestCaseOfLocalPart: a yes is shared among spellings, a no never.
func TestCaseOfLocalPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("Joe")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		want(t, r.state("JOE"), "unknown live")
		want(t, r.state("Joe"), "valid live")
		want(t, r.state("joe"), "valid cached")
	})
}

// TestRecall: what is known without asking anybody, and that nobody is asked.
func TestRecall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{answer: only("u1")}
		r := newRig(t, "backend", "", s)
		defer r.stop()
		recall := func(local string) string {
			a, ok := r.route.Oracle.(smtp.Recaller).Recall(box(local))
			return fmt.Sprintf("%s %v", a.State, ok)
		}
		want(t, recall("u1"), " false")
		want(t, recall("nobody"), " false")
		r.verify("u1")
		r.verify("nobody")
		asked := s.count("RCPT")
		want(t, recall("u1"), "valid true")
		want(t, recall("nobody"), "unknown true")
		if s.count("RCPT") != asked {
			t.Error("recalling asked the backend")
		}
	})
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, nil, path, "u1\n")
	r := newRig(t, "file:"+path, "", &fake{down: errRefused})
	defer r.stop()
	for local, state := range map[string]smtp.OracleState{"u1": smtp.Valid, "u2": smtp.Unknown} {
		if a, ok := r.route.Oracle.(smtp.Recaller).Recall(box(local)); !ok || a.State != state {
			t.Errorf("%s of a file: %+v %v", local, a, ok)
		}
	}
}
