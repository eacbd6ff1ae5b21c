package e2e

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

const (
	killsTapped  = 100 // between the backend's 250 and ours
	killsOther   = 100
	mailsPerKill = 4    // at least so many get through before the next
	fewestMails  = 1000 // in all
)

// TestNoMailIsLost sends mail through the edge to Postfix while processes of
// both are killed and an attacker is banned. Postfix's own retries are sped up;
// its promises are not. What counts is what lies in the
// mailbox: every message once, and twice only where a kill fell between an
// answer of the backend and ours, or took the backend before it could answer.
func TestNoMailIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes: run without -short")
	}
	s := newSite(t, "minimal_backoff_time = 1s", "queue_run_delay = 1s")
	tapped := s.Host("tap", "192.0.2.11")
	p := newTap(t, tapped, netip.MustParseAddrPort("192.0.2.10:25"))
	s.start("192.0.2.11:25")
	s.harvest(t, s.attacker, attacker4, edge4)

	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	gate := watchGate(ctx, s)
	m := &mta{host: s.sender, to: edge4, heard: p.heard}
	enough, sent := make(chan struct{}), make(chan int)
	go func() { sent <- m.send(ctx, enough, 6) }()
	k := &killer{site: s, tap: p, mta: m, taken: map[string]bool{}, random: rand.New(rand.NewPCG(20261122, 2))}
	began := time.Now()
	k.run(ctx)
	killed := time.Since(began)
	for m.done.Load() < fewestMails && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	close(enough)
	mails := <-sent
	cancel()

	if k.tapped < killsTapped || k.other < killsOther {
		t.Errorf("%d kills between the 250s and %d others: want %d and %d", k.tapped, k.other, killsTapped, killsOther)
	}
	for _, b := range m.bounces {
		t.Errorf("bounced: %s", b)
	}
	if n := m.done.Load(); n != int64(mails) || n < fewestMails {
		t.Errorf("%d of %d mails were answered 250 in time", n, mails)
	}
	if tries, open := gate(); open > 0 || tries == 0 {
		t.Errorf("of %d connects of the banned attacker %d were answered", tries, open)
	}
	if b, ok := s.ban(t, attacker4); !ok || b.Packets == 0 {
		t.Errorf("the attacker's ban: %+v, %v", b, ok)
	}
	k.account(t, mails, killed)
}

// watchGate has the banned attacker connect again and again. The function it
// returns ends that and says how often he tried, and how often he was heard.
func watchGate(ctx context.Context, s *site) (result func() (tries, open int64)) {
	var tries, open atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			silent, _ := timesOut(ctx, s.attacker, attacker4, edge4)
			if ctx.Err() != nil {
				return
			}
			if tries.Add(1); !silent {
				open.Add(1)
			}
		}
	}()
	return func() (int64, int64) {
		<-done
		return tries.Load(), open.Load()
	}
}

// killer kills, in turns, between the two 250s and at any moment.
type killer struct {
	site   *site
	tap    *tap
	mta    *mta
	random *rand.Rand

	taken map[string]bool // messages that the backend had taken and no client knew of, at a kill

	tapped, other int
	since         int // kills since weir run was started
}

func (k *killer) run(ctx context.Context) {
	for ctx.Err() == nil && (k.tapped < killsTapped || k.other < killsOther) {
		k.progress(ctx)
		if k.tapped <= k.other && k.tapped < killsTapped {
			k.killBetween(ctx)
		} else {
			k.killAnything()
		}
		// The supervisor waits longer each time a role dies: rightly, but not
		// for three minutes here. So it goes too, now and then.
		if k.since >= 4 {
			k.killWeir()
		}
	}
}

// progress lets some mails through first, so that kills hit many messages and
// not the same few again and again.
func (k *killer) progress(ctx context.Context) {
	for from := k.mta.done.Load(); k.mta.done.Load() < from+mailsPerKill && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
}

// killBetween kills mail while it waits for a 250 that the backend has given.
func (k *killer) killBetween(ctx context.Context) {
	k.tap.arm()
	select {
	case <-k.tap.held:
	case <-time.After(10 * time.Second):
		if k.tap.disarm() {
			return // nobody sent anything for so long; the end of the test tells
		}
		<-k.tap.held
	case <-ctx.Done():
		return
	}
	k.killMail()
	k.tap.release <- struct{}{}
	k.tapped++
}

func (k *killer) killMail() {
	k.await("mail")
	k.site.weir.Kill("mail")
	k.note()
	k.since++
}

func (k *killer) killAnything() {
	time.Sleep(time.Duration(k.random.IntN(60)) * time.Millisecond) // any moment will do
	switch k.random.IntN(4) {
	case 0, 1:
		k.killMail()
	case 2:
		k.await("guard")
		k.site.weir.Kill("guard")
		k.since++
	case 3:
		k.site.postfix.Kill()
		k.site.postfix.Start()
	}
	k.other++
}

// killWeir kills all of ours at once.
func (k *killer) killWeir() {
	k.site.weir.KillAll()
	k.note()
	k.site.weir.Start()
	k.other++
	k.since = 0
}

func (k *killer) await(role string) {
	k.site.Eventually(patience, role+" runs", func() bool { return k.site.weir.PID(role) != 0 })
}

// note remembers what the kill of our mail role makes the client send again.
func (k *killer) note() {
	for _, id := range k.tap.edgeDied() {
		k.taken[id] = true
	}
}

var (
	idLine    = regexp.MustCompile(`(?m)^Message-ID: (<durable-\d+@sender\.example>)`)
	queueLine = regexp.MustCompile(`(?m)^\s+(?:by office\.lab\.example|id)?.*\bid ([0-9A-F]+)`)
)

// account counts what lies in the mailbox.
func (k *killer) account(t *testing.T, mails int, killed time.Duration) {
	t.Helper()
	s := k.site
	s.Eventually(60*time.Second, "Postfix has delivered all it took", func() bool { return len(s.postfix.Queue()) == 0 })
	copies := map[string][]string{} // Message-ID → Postfix's queue ids
	for _, name := range s.postfix.Mail(anna) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		id, queue := idLine.FindSubmatch(b), queueLine.FindSubmatch(b)
		if id == nil || queue == nil {
			t.Fatalf("%s is none of ours:\n%s", name, b)
		}
		copies[string(id[1])] = append(copies[string(id[1])], string(queue[1]))
	}
	var n tally
	for i := range mails {
		n.count(t, k, messageID(i), copies[messageID(i)])
	}
	t.Logf("%d mails, %d attempts; %d kills between the backend's 250 and ours, %d others, in %.0f s; lost: %d",
		mails, k.mta.attempts.Load(), k.tapped, k.other, killed.Seconds(), n.lost)
	t.Logf("copies too many: %d because ours was killed after the backend's 250, %d because ours was killed while the backend took the mail, "+
		"%d because the backend was killed before its 250, %d because Postfix was killed while delivering", n.after, n.during, n.backend, n.redelivered)
	if n.after < k.tapped {
		t.Errorf("%d kills between the 250s made only %d copies: the tap does not do what it says", k.tapped, n.after)
	}
}

// tally counts mails that are not there just once, by what explains it.
type tally struct{ lost, after, during, backend, redelivered int }

// count looks at the copies of a message, which are named by Postfix's queue
// ids: two of the same id are one that it took once.
func (n *tally) count(t *testing.T, k *killer, id string, copies []string) {
	t.Helper()
	taken := slices.Compact(slices.Sorted(slices.Values(copies)))
	n.redelivered += len(copies) - len(taken)
	more := len(taken) - 1
	switch {
	case more < 0:
		n.lost++
		t.Errorf("LOST: %s", id)
	case more == 0:
	case k.taken[id]:
		n.after += more
	case k.tap.orphaned[id]:
		n.during += more
	case k.tap.doubtful[id]:
		n.backend += more
	default:
		t.Errorf("%s lies there %d times, and no kill explains it: the backend said 250 to it %d times", id, len(taken), k.tap.answered[id])
	}
}
