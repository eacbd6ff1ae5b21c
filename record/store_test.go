package record

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

var start = time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// alarms remembers what was raised and cleared.
type alarms struct {
	mu  sync.Mutex
	now map[string]string
	all []string
}

func (a *alarms) Alarm(name, detail string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now = map[string]string{}
	}
	a.now[name] = detail
	a.all = append(a.all, name+": "+detail)
}

func (a *alarms) Clear(name, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.now, name)
}

func (a *alarms) raised(name string) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	detail, ok := a.now[name]
	return detail, ok
}

type fixture struct {
	*Store
	clock  *clock
	alarms *alarms
	stop   func() // ends Run, once
}

// begin opens a store in dir and runs it until the test ends.
func begin(t testing.TB, dir string, edit func(*Options)) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{t: start}, alarms: &alarms{}}
	o := Options{Dir: dir, Node: "mx1", Alarms: f.alarms, Clock: f.clock.now}
	if edit != nil {
		edit(&o)
	}
	f.Store = Open(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	waitFor(t, "the store to run", f.running.Load)
	return f
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// tx is a refused transaction of one unknown recipient.
func tx(at time.Time, peer, from, to string) smtp.Transaction {
	return smtp.Transaction{
		Facts: smtp.Facts{
			Ref: ref.New(), Session: ref.New(), Time: at, Peer: netip.MustParseAddr(peer), MailFrom: &from,
			HELO: "mail.sender.example", Tier: smtp.New, Listener: netip.MustParseAddrPort("198.51.100.1:25"),
			Rcpts: []smtp.Recipient{{
				At: time.Millisecond, To: to, Oracle: smtp.Unknown, Age: smtp.Live, Reason: reply.UnknownUser,
				Reply: reply.Reply{Code: 550, Enhanced: reply.Enhanced{5, 1, 1}, Text: "no such mailbox here"},
			}},
		},
		Outcome: smtp.Rejected, Reason: reply.NoRecipients, Took: 5 * time.Millisecond,
	}
}

// search returns the refs that q finds, in order.
func (f *fixture) search(t testing.TB, q Query) []string {
	t.Helper()
	var refs []string
	for b, err := range f.Search(context.Background(), q) {
		if err != nil {
			t.Fatal(err)
		}
		var l Line
		if err := json.Unmarshal(b, &l); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, l.Ref)
	}
	return refs
}

func refs(all ...smtp.Transaction) []string {
	var s []string
	for _, t := range all {
		s = append(s, t.Facts.Ref.String())
	}
	return s
}

func same(a, b []string) bool { return strings.Join(a, " ") == strings.Join(b, " ") }

// The end of a transaction takes the place of its announcement, and two of the
// same millisecond stand beside each other.
func TestRecordReplacesAnnouncement(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	said := x
	said.Outcome, said.Reason = "", ""
	f.Announce(context.Background(), said)
	if got := f.search(t, Query{Ref: x.Facts.Ref}); !same(got, refs(x)) {
		t.Fatalf("announced: found %v", got)
	}
	if got := f.search(t, Query{Reason: "no_recipients"}); got != nil {
		t.Fatalf("found by a reason that it has not yet: %v", got)
	}
	x.Facts.Rcpts[0].To = "u2@example.com"
	f.Record(x)
	y := tx(start, "203.0.113.7", "a@b.example", "u3@example.com")
	y.Facts.Ref = x.Facts.Ref + 1<<idShift // the same bits in the id
	f.Record(y)
	if got := f.search(t, Query{}); !same(got, refs(y, x)) {
		t.Errorf("ended: found %v, want %v", got, refs(y, x))
	}
	if got := f.search(t, Query{Rcpt: "u1@example.com"}); got != nil {
		t.Errorf("found by a recipient of the announcement: %v", got)
	}
	if got := f.search(t, Query{Rcpt: "u2@example.com"}); !same(got, refs(x)) {
		t.Errorf("not found by its recipient: %v", got)
	}
	if st := f.Stats(context.Background()); st.Queued != 0 || st.Unsafe != 0 || !st.Oldest.Equal(start) {
		t.Errorf("stats %+v", st)
	}
}

// What a session goes on changing behind an Announce that did not wait to the
// end is not seen by the store (the race detector looks at this test too).
func TestAnnounceKeepsNothing(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	f.late.Store(true) // the journal stands: Announce does not wait
	x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	f.Announce(context.Background(), x)
	x.Facts.Rcpts[0].To = "changed@example.com"
	if got := f.search(t, Query{Rcpt: "u1@example.com"}); !same(got, refs(x)) {
		t.Errorf("found %v", got)
	}
	if f.count.unsafe.Load() != 1 {
		t.Error("the ref was said before it was safe, and nobody counted")
	}
}

func TestDamagedStoreIsSetAside(t *testing.T) {
	dir := t.TempDir()
	write := func(s string) {
		if err := os.WriteFile(filepath.Join(dir, "records.db"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Repeat("no database\n", 1000))
	f := begin(t, dir, nil)
	x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	f.Record(x)
	if got := f.search(t, Query{}); !same(got, refs(x)) {
		t.Errorf("found %v in the fresh store", got)
	}
	detail, ok := f.alarms.raised(AlarmCorrupt)
	if !ok || !strings.Contains(detail, "records.db.damaged-20261122T083000Z") {
		t.Errorf("alarms %v", f.alarms.all)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "records.db.damaged-20261122T083000Z")); err != nil || !strings.HasPrefix(string(b), "no database") {
		t.Errorf("the damaged store is not kept: %v", err)
	}
	os.Remove(filepath.Join(dir, "records.db.damaged-20261122T083000Z"))
	f.pruneAll()
	if _, ok := f.alarms.raised(AlarmCorrupt); ok {
		t.Error("the alarm stays after the damaged store was removed")
	}
}

// Damage in the middle, found while running, loses no record that comes after.
func TestDamageWhileRunning(t *testing.T) {
	dir := t.TempDir()
	f := begin(t, dir, nil)
	for i := range 3000 {
		f.Record(tx(start.Add(time.Duration(i)), "203.0.113.7", "a@b.example", fmt.Sprintf("u%d@example.com", i)))
	}
	f.search(t, Query{Limit: 1})
	f.stop()
	path := filepath.Join(dir, "records.db")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8192; i < len(b); i++ {
		b[i] = 0xA5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f = begin(t, dir, nil)
	x := tx(start, "203.0.113.9", "a@b.example", "u1@example.com")
	f.Record(x)
	if got := f.search(t, Query{Addr: netip.MustParsePrefix("203.0.113.9/32")}); !same(got, refs(x)) {
		t.Errorf("found %v", got)
	}
	if _, ok := f.alarms.raised(AlarmCorrupt); !ok {
		t.Errorf("no alarm: %v", f.alarms.all)
	}
}

// A store of a newer release is not touched: an older one starts beside it.
func TestNewerStoreIsSetAside(t *testing.T) {
	dir := t.TempDir()
	f := begin(t, dir, nil)
	f.Record(tx(start, "203.0.113.7", "a@b.example", "u1@example.com"))
	f.search(t, Query{})
	if err := drainQuery(f.db.write, "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	f.stop()
	f = begin(t, dir, nil)
	if got := f.search(t, Query{}); got != nil {
		t.Errorf("found %v in a store of the future", got)
	}
	if d, ok := f.alarms.raised(AlarmCorrupt); !ok || !strings.Contains(d, "newer release") {
		t.Errorf("alarms %v", f.alarms.all)
	}
}

// A folder that cannot be written is an alarm; the store works once it can.
func TestUnwritableFolder(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "records")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file stands in the way
		t.Fatal(err)
	}
	f := begin(t, dir, nil)
	x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	f.Announce(context.Background(), x)
	f.Record(x)
	waitFor(t, "the alarm", func() bool { _, ok := f.alarms.raised(AlarmStore); return ok })
	if f.count.unsafe.Load() != 1 {
		t.Error("a ref that is not safe was not counted")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the record", func() bool { return f.count.recorded.Load() > 0 })
	if got := f.search(t, Query{}); !same(got, refs(x)) {
		t.Errorf("found %v", got)
	}
	f.Record(tx(start, "203.0.113.7", "a@b.example", "u1@example.com"))
	waitFor(t, "the end of the alarm", func() bool { _, ok := f.alarms.raised(AlarmStore); return !ok })
}

// When more comes than the disk takes, Record drops, counts, raises an alarm,
// and returns at once.
func TestOverflow(t *testing.T) {
	a := &alarms{}
	s := Open(Options{Dir: t.TempDir(), Alarms: a}) // not run: the disk takes nothing
	for range 4*maxBatch + 10 {
		s.Record(tx(start, "203.0.113.7", "a@b.example", "u1@example.com"))
	}
	if n := s.Stats(context.Background()).Dropped; n != 10 {
		t.Errorf("dropped %d, want 10", n)
	}
	if _, ok := a.raised(AlarmLost); !ok {
		t.Error("no alarm")
	}
	s.queued.Store(0)
	big := tx(start, "203.0.113.7", "a@b.example", strings.Repeat("x", maxQueued))
	s.Record(big)
	if n := s.Stats(context.Background()).Dropped; n != 11 {
		t.Errorf("dropped %d, want 11: one that takes all the memory", n)
	}
}

// Many at once; with -race.
func TestConcurrency(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				x := tx(start.Add(time.Duration(i)*time.Second), fmt.Sprintf("203.0.113.%d", g), "a@b.example", "u1@example.com")
				f.Announce(context.Background(), x)
				x.Facts.Rcpts = append(x.Facts.Rcpts, x.Facts.Rcpts[0])
				x.Facts.Rcpts[0].To = "u0@example.com"
				f.Record(x)
				if i%10 == 0 {
					for _, err := range f.Search(context.Background(), Query{Limit: 5}) {
						if err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	if got := f.search(t, Query{Rcpt: "u0@example.com"}); len(got) != 400 {
		t.Errorf("%d records, want 400", len(got))
	}
}
