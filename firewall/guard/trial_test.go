package guard

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/control"
	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/geo"
)

// setClock is a clock that a test sets.
type setClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *setClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *setClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// trialRig is a guard whose clock and file a test sets.
type trialRig struct {
	*rig
	f     *fakeEngine
	clock *setClock
	file  Policy
}

func newTrialRig(t *testing.T) *trialRig {
	t.Helper()
	needRoot(t)
	r := &trialRig{f: newFake(), clock: &setClock{t: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}}
	r.rig = newRig(t, one(r.f), func(c *Config) {
		c.Now = r.clock.now
		c.Reload = func(context.Context) (Policy, error) { return r.file, nil }
		r.file = c.Policy
	})
	return r
}

// down is guard away for so long, and back with the file as it is.
func (r *trialRig) down(d time.Duration) {
	r.t.Helper()
	r.end()
	r.clock.advance(d)
	r.f = newFake()
	r.cfg.Policy = r.file
	r.restart(one(r.f))
}

func (r *trialRig) denied() (list []string) {
	r.f.with(func() {
		for _, d := range r.f.rules.Deny {
			list = append(list, d.String())
		}
	})
	return list
}

func (r *trialRig) allowed(p string) (yes bool) {
	r.f.with(func() { yes = slices.Contains(r.f.rules.Allow, pfx(p)) })
	return yes
}

func (r *trialRig) until(p string) time.Time {
	b, _ := r.s.ledger.Exactly(pfx(p))
	return b.Until
}

// A ban of a short prefix is in force on trial: by the kernel's own clock it ends
// with the trial, and has its whole length once it is confirmed.
func TestShortPrefixIsOnTrial(t *testing.T) {
	g := newTrialRig(t)
	for _, p := range []string{"10.0.0.0/8", "11.1.0.0/16", "2001:db8::/32"} {
		c := g.ban(p)
		if c.Trial == nil || !g.f.has(p) {
			t.Fatalf("%s: %+v, in force: %v; want it in force on trial", p, c, g.f.has(p))
		}
		g.f.with(func() {
			if end := g.f.bans[pfx(p)].Until; end.Sub(g.clock.now()) != trialFor {
				t.Errorf("%s ends in the kernel after %v, want %v", p, end.Sub(g.clock.now()), trialFor)
			}
		})
	}
	for _, p := range []string{"12.1.0.0/17", "2001:db8:1::/33", "203.0.113.7/32"} {
		if c := g.ban(p); c.Trial != nil {
			t.Errorf("%s is on trial", p)
		}
	}
	if n := len(g.status().Trials); n != 3 {
		t.Errorf("status has %d trials, want 3", n)
	}
	must(g.op.Unban(ctx, pfx("11.1.0.0/16")))(t)
	if c := must(g.op.Confirm(ctx))(t); len(c.Confirmed) != 2 {
		t.Errorf("confirmed %v, want two trials: the third was lifted", c.Confirmed)
	}
	g.clock.advance(time.Hour)
	for _, p := range []string{"10.0.0.0/8", "2001:db8::/32"} {
		if left := g.until(p).Sub(g.clock.now()); left != 47*time.Hour {
			t.Errorf("%s has %v left, want 47 h", p, left)
		}
	}
	if g.f.has("11.1.0.0/16") {
		t.Error("what was lifted was confirmed back")
	}
	if _, err := g.op.Confirm(ctx); control.ExitCode(err) != 1 {
		t.Errorf("confirm with nothing on trial: %v", err)
	}
	if c := g.ban("10.0.0.0/8"); c.Trial != nil {
		t.Error("another end for a ban that was confirmed is on trial again")
	}
}

func TestTrialsAsTheOperatorWants(t *testing.T) {
	g := newTrialRig(t)
	ask := func(p string, terms TrialTerms) (Change, error) {
		return g.op.Ban(ctx, BanRequest{Prefix: pfx(p), Why: "test", TrialTerms: terms})
	}
	if c := must(ask("10.0.0.0/8", TrialTerms{NoTrial: true}))(t); c.Trial != nil || g.until("10.0.0.0/8").Sub(g.clock.now()) != 48*time.Hour {
		t.Errorf("--no-trial: %+v", c)
	}
	if c := must(ask("203.0.113.7/32", TrialTerms{ConfirmWithin: Duration(time.Hour)}))(t); c.Trial == nil || c.Trial.Until.Sub(g.clock.now()) != time.Hour {
		t.Errorf("--confirm-within 1h: %+v", c)
	}
	for _, bad := range []TrialTerms{{NoTrial: true, ConfirmWithin: 1}, {ConfirmWithin: Duration(25 * time.Hour)}} {
		if _, err := ask("203.0.113.8/32", bad); control.ExitCode(err) != 2 {
			t.Errorf("%+v: %v, want a complaint about usage", bad, err)
		}
	}
	if c := must(g.op.Ban(ctx, BanRequest{Prefix: pfx("11.0.0.0/8"), Why: "short", For: Duration(time.Minute)}))(t); c.Trial != nil {
		t.Error("a ban that ends before its trial is on trial")
	}
	c := must(g.op.BanText(ctx, strings.NewReader("12.0.0.0/8 7d\n13.0.0.0/8 forever why\n203.0.113.9 7d\n"), BanRequest{}))(t)
	if c.Trial == nil || len(c.Trial.Bans) != 2 || c.Count != 3 {
		t.Fatalf("of a list: %+v, want the two short prefixes on trial", c)
	}
	if _, err := g.op.BanText(ctx, strings.NewReader("14.0.0.0/8\n127.0.0.1\n"), BanRequest{}); err == nil {
		t.Fatal("a list with a guarded address was taken")
	}
	must(g.op.Confirm(ctx))(t)
	if !g.until("13.0.0.0/8").Equal(firewall.Forever) || g.until("12.0.0.0/8").Sub(g.clock.now()) != 7*24*time.Hour {
		t.Errorf("after confirm: until %v and %v", g.until("12.0.0.0/8"), g.until("13.0.0.0/8"))
	}
	if g.f.has("14.0.0.0/8") {
		t.Error("a list that was refused was on trial, and confirmed")
	}
}

// What is lifted while somebody confirms stays lifted.
func TestUnbanWhileSomebodyConfirms(t *testing.T) {
	g := newTrialRig(t)
	g.ban("10.0.0.0/8")
	lifting, confirming := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g.f.applying = func() {
		once.Do(func() { close(lifting); <-confirming })
	}
	var both sync.WaitGroup
	both.Go(func() { must(g.op.Unban(ctx, pfx("10.0.0.0/8")))(t) })
	<-lifting
	both.Go(func() {
		if _, err := g.op.Confirm(ctx); control.ExitCode(err) != 1 {
			t.Errorf("confirm: %v, want that nothing is on trial", err)
		}
	})
	eventually(t, "that confirm is under way", func() bool {
		if g.s.verbs.TryLock() {
			g.s.verbs.Unlock()
			return false
		}
		return true
	})
	close(confirming)
	both.Wait()
	if !g.until("10.0.0.0/8").IsZero() || g.f.has("10.0.0.0/8") {
		t.Error("what was lifted was confirmed back")
	}
}

// The bans that a rule of geo.ban made on trial end with it, with guard there or
// away; those of a rule that is in force for good stay.
func TestBansOfAPlaceEndWithItsTrial(t *testing.T) {
	for name, pass := range map[string]func(g *trialRig, d time.Duration){
		"while guard runs":  func(g *trialRig, d time.Duration) { g.clock.advance(d) },
		"while it was away": func(g *trialRig, d time.Duration) { g.down(d) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := newTrialRig(t)
			g.file.World = enginetest.Worlds(t)[0]
			g.file.Banish = []geo.Rule{{Country: "NL"}} // the upper half of 203.0.113.0/24
			must(g.op.Reload(ctx, TrialTerms{NoTrial: true}))(t)
			g.file.Banish = append(g.file.Banish, geo.Rule{Country: "FR"})
			if c := must(g.op.Reload(ctx, TrialTerms{}))(t); c.Trial == nil {
				t.Fatal("geo.ban FR is not on trial")
			}
			l := w.listen(edge4)
			for _, from := range []string{"203.0.113.7", "203.0.113.200"} {
				if r := g.geo(t, silent(t, w, l, from)); r.Outcome != Banned {
					t.Fatalf("%s: guard answers %v", from, r.Outcome)
				}
			}
			pass(g, trialFor+time.Second)
			eventually(t, "the bans of the rule on trial are lifted", func() bool {
				return !g.f.has("203.0.113.7/32") && g.until("203.0.113.7/32").IsZero()
			})
			if !g.f.has("203.0.113.200/32") {
				t.Error("the ban of the rule in force is lifted too")
			}
		})
	}
}

// A ban on trial takes the place of none that stands: unconfirmed, that goes on
// as it was.
func TestTrialLeavesTheFormerBan(t *testing.T) {
	g := newTrialRig(t)
	const p = "203.0.113.7/32"
	must(g.op.Ban(ctx, BanRequest{Prefix: pfx(p), Why: "test", For: Duration(24 * time.Hour)}))(t)
	former := g.until(p)
	for _, length := range []time.Duration{7 * 24 * time.Hour, time.Hour} {
		for _, within := range []time.Duration{10 * time.Minute, 5 * time.Minute} { // the second takes the place of the first
			c := must(g.op.Ban(ctx, BanRequest{Prefix: pfx(p), Why: "test", For: Duration(length), TrialTerms: TrialTerms{ConfirmWithin: Duration(within)}}))(t)
			if c.Trial == nil || !g.until(p).Equal(former) {
				t.Errorf("%v on trial: until %v, want %v as before", length, g.until(p), former)
			}
		}
		g.clock.advance(6 * time.Minute)
		eventually(t, "the trial is over", func() bool { return len(g.status().Trials) == 0 })
		if !g.until(p).Equal(former) || !g.f.has(p) {
			t.Errorf("%v undone: until %v, want %v as before", length, g.until(p), former)
		}
	}
	must(g.op.Ban(ctx, BanRequest{Prefix: pfx(p), Why: "test", For: Duration(time.Hour), TrialTerms: TrialTerms{ConfirmWithin: Duration(time.Minute)}}))(t)
	must(g.op.Confirm(ctx))(t)
	if end := g.until(p).Sub(g.clock.now()); end != time.Hour {
		t.Errorf("confirmed it ends in %v, want 1h", end)
	}
}

// An allow entry that cannot be written back when its removal is undone comes
// back as soon as it can.
func TestUndoneAgainstAFullDisk(t *testing.T) {
	g := newTrialRig(t)
	must(g.op.Allow(ctx, AllowRequest{Prefix: pfx("198.51.100.0/24")}))(t)
	must(g.op.Disallow(ctx, pfx("198.51.100.0/24"), TrialTerms{}))(t)
	path := func(p string) {
		g.s.allow.mu.Lock()
		defer g.s.allow.mu.Unlock()
		g.s.allow.path = p
	}
	own := g.s.allow.path
	path("/proc/nowhere/allow.json")
	g.clock.advance(trialFor + time.Second)
	check(t, g.s.trials.settle(func(*keptTrials) {})) // its own disk is well
	g.s.verbs.Lock()
	g.s.undoDue()
	g.s.verbs.Unlock()
	path(own)
	eventually(t, "the entry is back", func() bool { return g.allowed("198.51.100.0/24") })
	if n := len(g.s.trials.due()); n != 0 {
		t.Errorf("%d trials are still to be undone", n)
	}
}

// What nobody confirms is undone when its time is over, with guard there, killed
// or stopped; and what was confirmed is not.
func TestUnconfirmedIsUndone(t *testing.T) {
	for name, pass := range map[string]func(g *trialRig, d time.Duration){
		"while guard runs":  func(g *trialRig, d time.Duration) { g.clock.advance(d) },
		"while it was away": func(g *trialRig, d time.Duration) { g.down(d) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newTrialRig(t)
			for _, p := range []string{"198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"} {
				must(g.op.Allow(ctx, AllowRequest{Prefix: pfx(p), Why: "branch"}))(t)
			}
			must(g.op.Disallow(ctx, pfx("192.0.2.0/24"), TrialTerms{}))(t)
			g.file.Deny = []geo.Rule{{Country: "NL"}}
			must(g.op.Reload(ctx, TrialTerms{}))(t)
			must(g.op.Confirm(ctx))(t)

			g.file.Deny, g.file.Banish = append(g.file.Deny, geo.Rule{Country: "FR"}), []geo.Rule{{ASN: 64500}}
			if c := must(g.op.Reload(ctx, TrialTerms{}))(t); c.Trial == nil || !slices.Equal(c.Trial.Places, []string{"geo.drop FR", "geo.ban AS64500"}) {
				t.Fatalf("reload: %+v", c.Trial)
			}
			c := must(g.op.Disallow(ctx, pfx("198.51.100.0/24"), TrialTerms{}))(t)
			if c.Trial == nil || g.allowed("198.51.100.0/24") {
				t.Fatalf("disallow: %+v", c)
			}
			g.ban("10.0.0.0/8")
			g.ban("198.51.100.7/32")
			if d := g.denied(); !slices.Equal(d, []string{"NL", "FR"}) {
				t.Fatalf("denied %v, want NL and FR on trial", d)
			}

			pass(g, trialFor-time.Second)
			if !slices.Equal(g.denied(), []string{"NL", "FR"}) || g.allowed("198.51.100.0/24") || len(g.status().Trials) != 3 {
				t.Errorf("before the time is over: denied %v, %v", g.denied(), g.status().Trials)
			}
			pass(g, 2*time.Second)
			eventually(t, "what was not confirmed is undone", func() bool {
				return slices.Equal(g.denied(), []string{"NL"}) && g.allowed("198.51.100.0/24") && len(g.status().Trials) == 0
			})
			if g.allowed("192.0.2.0/24") || !g.allowed("203.0.113.0/24") {
				t.Error("the removal that was confirmed was undone too, or an entry is gone")
			}
			if end := g.until("10.0.0.0/8"); !end.IsZero() {
				t.Errorf("the ban on trial stands until %v", end)
			}
			eventually(t, "the ban under the entry is lifted", func() bool { return !g.f.has("198.51.100.7/32") })
			if len(g.s.currentPolicy().Banish) != 0 {
				t.Errorf("geo.ban %v is in force", g.s.currentPolicy().Banish)
			}
			if a := g.status().Alarms; len(a) != 1 || !strings.Contains(a[0], "geo.drop FR, geo.ban AS64500") {
				t.Errorf("alarms %v, want one that names what of the file is not in force", a)
			}
			g.down(0) // a start tries nothing again by itself
			if d := g.denied(); !slices.Equal(d, []string{"NL"}) {
				t.Errorf("after a start denied %v", d)
			}
			if c := must(g.op.Reload(ctx, TrialTerms{NoTrial: true}))(t); c.Trial != nil || len(g.denied()) != 2 || len(g.status().Alarms) != 0 {
				t.Errorf("reload for good: %+v, denied %v, alarms %v", c.Trial, g.denied(), g.status().Alarms)
			}
		})
	}
}

// A file that has rules at the first start is taken as it is; one that was
// changed while guard was away is not.
func TestPlacesAtTheStart(t *testing.T) {
	g := newTrialRig(t)
	g.file.Deny = []geo.Rule{{Country: "NL"}}
	g.down(0)
	if len(g.status().Trials) != 1 {
		t.Errorf("a rule that came while guard was away: trials %v", g.status().Trials)
	}
	g.end()
	check(t, os.RemoveAll(g.cfg.StateDir))
	g.restart(one(newFake()))
	if s := g.status(); len(s.Trials)+len(s.Alarms) != 0 || len(g.s.currentPolicy().Deny) != 1 {
		t.Errorf("at the first start: trials %v, alarms %v, deny %v", s.Trials, s.Alarms, g.s.currentPolicy().Deny)
	}
	g.end()
	path := filepath.Join(g.cfg.StateDir, "guard", "trials.json")
	check(t, os.WriteFile(path, []byte("{{{"), 0o600))
	g.restart(one(newFake()))
	s := g.status()
	if len(s.Alarms) != 1 || !strings.Contains(s.Alarms[0], path+".damaged-") || len(g.s.currentPolicy().Deny) != 1 {
		t.Errorf("with a damaged file: alarms %v, deny %v", s.Alarms, g.s.currentPolicy().Deny)
	}
}

// A trial that is not on the disk is not begun.
func TestTrialNeedsTheDisk(t *testing.T) {
	g := newTrialRig(t)
	must(g.op.Allow(ctx, AllowRequest{Prefix: pfx("198.51.100.0/24")}))(t)
	g.s.trials.path = "/proc/nowhere/trials.json"
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("10.0.0.0/8"), Why: "test"}); err == nil || g.f.has("10.0.0.0/8") {
		t.Errorf("a ban whose trial is not on the disk: %v", err)
	}
	if _, err := g.op.Disallow(ctx, pfx("198.51.100.0/24"), TrialTerms{}); err == nil || !g.allowed("198.51.100.0/24") {
		t.Errorf("a removal whose trial is not on the disk: %v", err)
	}
}

// The operator is not banned from where he works: by his word, or because he is
// connected for longer than sshd lets a stranger be.
func TestOperatorBansNotHimself(t *testing.T) {
	w := newWorld(t)
	clock := &setClock{t: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}
	g := newRig(t, one(newFake()), func(c *Config) { c.Now = clock.now })
	for _, c := range []struct {
		from, to, port, wide string
		told                 bool
	}{
		{"203.0.113.7", edge4, "22", "203.0.113.0/24", false},
		{"2001:db8:bad:1::7", edge6, "22", "2001:db8:bad::/48", false},
		{"203.0.113.9", edge4, "2222", "203.0.113.9/32", true},
	} {
		listen(t, "["+c.to+"]:"+c.port, nil)
		conn := w.dial(c.from, c.to, c.port)
		terms := TrialTerms{}
		if c.told {
			terms.From = Session{netip.MustParseAddr(c.from), 2222}
		} else {
			if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx(c.wide), Why: "test"}); err != nil {
				t.Fatalf("a stranger who has only connected to the SSH port is safe: %v", err)
			}
			must(g.op.Unban(ctx, pfx(c.wide)))(t)
			clock.advance(loggedIn)
		}
		_, err := g.op.Ban(ctx, BanRequest{Prefix: pfx(c.wide), Why: "test", TrialTerms: terms})
		if err == nil || !strings.Contains(err.Error(), firewall.GuardSession) {
			t.Errorf("a ban of %s by %s: %v", c.wide, c.from, err)
		}
		conn.Close()
		eventually(t, "a ban once he has left", func() bool {
			_, err := g.op.Ban(ctx, BanRequest{Prefix: pfx(c.wide), Why: "test"})
			return err == nil
		})
		must(g.op.Unban(ctx, pfx(c.wide)))(t)
	}
}

// A stranger who connects to the SSH port again and again, always before he is
// thrown out, is no operator.
func TestStrangerAtTheSSHPort(t *testing.T) {
	w := newWorld(t)
	clock := &setClock{t: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}
	p := newPresent(clock.now)
	must(p.look())(t)
	listen(t, edge4+":22", nil)
	last := w.dial("203.0.113.7", edge4, "22")
	for range 5 {
		must(p.look())(t)
		clock.advance(loggedIn - time.Minute)
		next := w.dial("203.0.113.7", edge4, "22")
		must(p.look())(t)
		last.Close()
		last = next
	}
	eventually(t, "only the last connection", func() bool { must(p.look())(t); return len(p.since) == 1 })
	if list := must(p.look())(t); len(list) != 0 {
		t.Errorf("present: %v", list)
	}
	clock.advance(loggedIn)
	if list := must(p.look())(t); len(list) != 1 {
		t.Errorf("who stays: present %v, want him", list)
	}
}
