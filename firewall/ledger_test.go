package firewall

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/ref"
)

// clock is a time that stands until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newClock() *clock {
	return &clock{time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)}
}

const (
	hour = time.Hour
	day  = 24 * hour
)

func openLedger(t testing.TB, dir string, c *clock) *Ledger {
	t.Helper()
	l, _, err := OpenLedger(dir, Terms{}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func standing(l *Ledger) map[netip.Prefix]time.Time {
	m := map[netip.Prefix]time.Time{}
	for b := range l.Active() {
		m[b.Prefix] = b.Until
	}
	return m
}

func TestFirstBanIsTwoDays(t *testing.T) { // R-BX-18
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	r := ref.New()
	got := l.Convict(addr("::ffff:203.0.113.7"), Harvest, r)
	want := Ban{Prefix: prefix("203.0.113.7/32"), Since: c.t, Until: c.t.Add(48 * hour), Reason: Harvest, Ref: r}
	if !got.New || got.Ban != want {
		t.Fatalf("got %+v, want a new %+v", got, want)
	}
	c.advance(48*hour - time.Second)
	if _, banned := l.Banned(addr("203.0.113.7")); !banned {
		t.Error("free a second early")
	}
	c.advance(time.Second)
	if b, banned := l.Banned(addr("203.0.113.7")); banned {
		t.Errorf("not free at the end: %+v", b)
	}
}

func TestRepeatsDoubleUpToTwoWeeks(t *testing.T) { // R-BX-14, R-BX-19
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	for step, want := range []time.Duration{2 * day, 4 * day, 8 * day, 14 * day, 14 * day} {
		s := l.Convict(addr("203.0.113.7"), Harvest, 1)
		if got := s.Ban.Until.Sub(c.t); got != want || int(s.Ban.Step) != step {
			t.Fatalf("offence %d: %v, step %d, want %v", step, got, s.Ban.Step, want)
		}
		c.advance(want + 29*day)
	}
	c.advance(2 * day)
	if s := l.Convict(addr("203.0.113.7"), Harvest, 1); s.Ban.Step != 0 {
		t.Errorf("31 days after the last one: step %d, want a first ban", s.Ban.Step)
	}
}

func TestNoAutomaticBanIsLongerWhateverTheTerms(t *testing.T) { // R-BX-19
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	l.SetTerms(Terms{First: 20 * day, Max: 90 * day})
	if s := l.Convict(addr("203.0.113.7"), Trap, 1); s.Ban.Until.Sub(c.t) != MaxAutomatic {
		t.Errorf("got %v", s.Ban.Until.Sub(c.t))
	}
}

func TestOffencesOfOneBanDoNotAddUp(t *testing.T) {
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	first := l.Convict(addr("203.0.113.7"), Harvest, 1)
	c.advance(hour)
	again := l.Convict(addr("203.0.113.7"), Trap, 2)
	if again.New || !again.Ban.Until.Equal(first.Ban.Until) || again.Ban.Reason != Harvest {
		t.Errorf("got %+v, want the first ban as it was", again)
	}
}

func TestIPv6BansTheSubnet(t *testing.T) {
	l := openLedger(t, t.TempDir(), newClock())
	if s := l.Convict(addr("2001:db8:1:2:3::4"), Harvest, 1); s.Ban.Prefix != prefix("2001:db8:1:2::/64") {
		t.Errorf("banned %v", s.Ban.Prefix)
	}
	if s := l.Convict(addr("2001:db8:1:2:ffff::1"), Harvest, 1); s.New {
		t.Error("a neighbour in the banned /64 got a ban of its own")
	}
	l.SetGuards(NewGuards([]Guarded{{GuardBackend, prefix("2001:db8:5:5::25/128")}}))
	if s := l.Convict(addr("2001:db8:5:5::66"), Harvest, 1); s.Ban.Prefix != prefix("2001:db8:5:5::66/128") {
		t.Errorf("banned %v beside a backend, want the address alone", s.Ban.Prefix)
	}
}

func TestGuardsVetoWithTheirName(t *testing.T) {
	l := openLedger(t, t.TempDir(), newClock())
	l.SetGuards(NewGuards([]Guarded{
		{GuardAllow, prefix("198.51.100.0/24")}, {GuardNeverBan, prefix("192.0.2.0/28")},
		{GuardGateway, prefix("203.0.113.1/32")}, {GuardResolver, prefix("2001:db8::53/128")},
		{GuardBackend, prefix("203.0.113.25/32")}, {GuardForwarder, prefix("203.0.113.26/32")},
		{GuardBalancer, prefix("203.0.113.27/32")}, {GuardOwn, prefix("203.0.113.2/32")},
	}))
	for a, want := range map[string]string{
		"198.51.100.9": GuardAllow, "192.0.2.3": GuardNeverBan, "203.0.113.1": GuardGateway, "2001:db8::53": GuardResolver,
		"203.0.113.25": GuardBackend, "203.0.113.26": GuardForwarder, "203.0.113.27": GuardBalancer, "203.0.113.2": GuardOwn,
		"127.0.0.1": GuardLoopback, "::1": GuardLoopback, "fe80::1%eth0": GuardLinkLocal, "169.254.1.1": GuardLinkLocal,
		"::ffff:127.0.0.9": GuardLoopback, "203.0.113.99": "", "2001:db8::54": "",
	} {
		if s := l.Convict(addr(a), Harvest, 1); s.Guard.Guard != want || s.New != (want == "") {
			t.Errorf("%s: %+v, want guard %q", a, s, want)
		}
	}
}

// Allow entries win in the kernel, so a wider ban may stand around them; no
// other guard may be inside a ban.
func TestOrdersAroundGuards(t *testing.T) {
	l := openLedger(t, t.TempDir(), newClock())
	l.SetGuards(NewGuards([]Guarded{{GuardAllow, prefix("198.51.100.7/32")}, {GuardGateway, prefix("203.0.113.1/32")}}))
	for p, want := range map[string]string{
		"198.51.100.0/24": "", "198.51.100.7/32": GuardAllow,
		"203.0.113.0/24": GuardGateway, "0.0.0.0/0": "own_address", "::/0": "own_address",
	} {
		_, wrong := l.Ban([]Order{{Prefix: prefix(p), Why: "test"}})
		var name string
		if len(wrong) > 0 {
			name = wrong[0].Err.(VetoError).Guard.Guard
		}
		if name != want && !(want == "own_address" && name != "") {
			t.Errorf("ban of %s: guard %q, want %q", p, name, want)
		}
	}
}

func TestNewGuardsLiftStandingBans(t *testing.T) {
	l := openLedger(t, t.TempDir(), newClock())
	l.Convict(addr("203.0.113.25"), Harvest, 1)
	l.Convict(addr("203.0.113.26"), Harvest, 1)
	pardons := l.SetGuards(NewGuards([]Guarded{{GuardBackend, prefix("203.0.113.25/32")}}))
	if len(pardons) != 1 || pardons[0].Guard.Guard != GuardBackend || pardons[0].Ban.Prefix != prefix("203.0.113.25/32") {
		t.Fatalf("pardoned %+v", pardons)
	}
	if got := slices.Collect(maps.Keys(standing(l))); len(got) != 1 || got[0] != prefix("203.0.113.26/32") {
		t.Errorf("standing: %v", got)
	}
	l.SetGuards(NewGuards(nil))
	if s := l.Convict(addr("203.0.113.25"), Harvest, 1); s.Ban.Step != 0 {
		t.Errorf("a pardoned ban doubled the next: step %d", s.Ban.Step)
	}
}

func TestOrders(t *testing.T) {
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	bans, wrong := l.Ban([]Order{
		{Prefix: prefix("203.0.113.77/24"), For: time.Hour, Why: "botnet\nof\tTuesday"},
		{Prefix: prefix("2001:db8::/32"), Forever: true, Why: "never again"},
		{Prefix: prefix("::ffff:192.0.2.1/128")},
	})
	if wrong != nil {
		t.Fatal(wrong)
	}
	if bans[0].Prefix != prefix("203.0.113.0/24") || !bans[0].Until.Equal(c.t.Add(hour)) ||
		!bans[1].Until.Equal(Forever) || bans[2].Prefix != prefix("192.0.2.1/32") || !bans[2].Until.Equal(c.t.Add(2*day)) {
		t.Fatalf("got %+v", bans)
	}
	got, _ := l.At(prefix("203.0.113.9/32"))
	if len(got) != 1 || got[0].Why != "botnet of Tuesday" || got[0].Reason != Operator {
		t.Errorf("got %+v", got)
	}
}

func TestOneWrongOrderAndNothingIsBanned(t *testing.T) {
	l := openLedger(t, t.TempDir(), newClock())
	_, wrong := l.Ban([]Order{
		{Prefix: prefix("203.0.113.7/32")},
		{Prefix: prefix("127.0.0.1/32")},
		{Prefix: prefix("203.0.113.8/32"), Forever: true},
		{Prefix: netip.Prefix{}},
	})
	if len(wrong) != 3 || wrong[0].Index != 1 || wrong[1].Index != 2 || wrong[2].Index != 3 {
		t.Errorf("errors: %+v", wrong)
	}
	if n := l.Len(); n != 0 {
		t.Errorf("%d bans stand, want none", n)
	}
}

func TestLift(t *testing.T) { // R-BX-29
	l := openLedger(t, t.TempDir(), newClock())
	order := func(p string) { l.Ban([]Order{{Prefix: prefix(p)}}) }
	order("203.0.113.0/24")
	l.Convict(addr("203.0.114.7"), Harvest, 1)
	order("203.0.114.8/32")
	l.Convict(addr("2001:db8::7"), Harvest, 1)

	lifted, above := l.Lift(prefix("203.0.113.9/32"))
	if len(lifted) != 0 || len(above) != 1 || above[0].Prefix != prefix("203.0.113.0/24") {
		t.Errorf("one address of an order: lifted %v, above %v", lifted, above)
	}
	if lifted, _ := l.Lift(prefix("2001:db8::9/128")); len(lifted) != 1 || lifted[0].Prefix != prefix("2001:db8::/64") {
		t.Errorf("an address of a banned /64: lifted %v", lifted)
	}
	if lifted, _ := l.Lift(prefix("203.0.114.0/24")); len(lifted) != 2 {
		t.Errorf("a prefix with two bans inside: lifted %v", lifted)
	}
	if lifted, _ := l.Lift(prefix("203.0.113.0/24")); len(lifted) != 1 || l.Len() != 0 {
		t.Errorf("the order itself: lifted %v, %d stand", lifted, l.Len())
	}
}

func TestLiftForgetsThePast(t *testing.T) {
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	l.Convict(addr("203.0.113.7"), Harvest, 1)
	c.advance(3 * day)
	l.Lift(prefix("203.0.113.7/32"))
	if s := l.Convict(addr("203.0.113.7"), Harvest, 1); s.Ban.Step != 0 {
		t.Errorf("step %d after a pardon, want 0", s.Ban.Step)
	}
}

func TestSweep(t *testing.T) {
	c := newClock()
	l := openLedger(t, t.TempDir(), c)
	l.Convict(addr("203.0.113.7"), Harvest, 1)
	l.Ban([]Order{{Prefix: prefix("203.0.113.8/32"), For: 7 * day}})
	if got := l.Sweep(); len(got) != 0 {
		t.Fatalf("swept %v while it stands", got)
	}
	c.advance(2 * day)
	if got := l.Sweep(); len(got) != 1 || got[0].Prefix != prefix("203.0.113.7/32") {
		t.Fatalf("swept %v", got)
	}
	if got := l.Sweep(); len(got) != 0 {
		t.Fatalf("swept %v twice", got)
	}
	_, past := l.At(prefix("203.0.113.7/32"))
	if len(past) != 1 {
		t.Fatalf("past bans: %v", past)
	}
	c.advance(31 * day)
	l.Sweep()
	if n := l.v4.len(); n != 1 {
		t.Errorf("%d records are kept, want the other one that just ended", n)
	}
}

func TestWordsOfOperators(t *testing.T) {
	for in, want := range map[string]string{
		"  a\tb\r\nc ": "a b c", "\x1b[31mred": "[31mred", "": "",
		strings.Repeat("x", MaxWhy+9): strings.Repeat("x", MaxWhy),
		strings.Repeat("é", MaxWhy):   strings.Repeat("é", MaxWhy/2),
	} {
		if got := tidy(in); got != want {
			t.Errorf("tidy(%.20q) = %.20q (%d bytes), want %d", in, got, len(got), len(want))
		}
	}
}

// The ledger against a plain map, over a year of random days: who is banned
// until when is the same, before and after each restart.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		modelRun(t, seed)
	}
}

type modelBan struct {
	until time.Time
	step  int
}

func modelRun(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	c, dir := newClock(), t.TempDir()
	l, _, _ := OpenLedger(dir, Terms{}, c.now)
	model := map[netip.Prefix]modelBan{}
	for range 400 {
		host := netip.AddrFrom4([4]byte{203, 0, 113, byte(rnd.IntN(12))})
		p := netip.PrefixFrom(host, 32)
		if rnd.IntN(2) == 0 {
			host = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(rnd.IntN(12)), 15: byte(rnd.IntN(256))})
			p, _ = host.Prefix(64)
		}
		switch rnd.IntN(10) {
		case 0:
			l.Lift(p)
			delete(model, p)
		case 1:
			l.Sweep()
		case 2:
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			l.Close()
			l, _, _ = OpenLedger(dir, Terms{}, c.now)
		case 3:
			l.store.stale = true // the next sync writes a snapshot
		default:
			convictModel(model, p, c.t)
			l.Convict(host, Harvest, 1)
		}
		c.advance(time.Duration(rnd.Int64N(int64(3*day))) / time.Second * time.Second)
		compareModel(t, seed, l, model, c.t)
	}
	l.Close()
}

func convictModel(model map[netip.Prefix]modelBan, p netip.Prefix, now time.Time) {
	last, repeat := model[p]
	if repeat && now.Before(last.until) {
		return
	}
	var b modelBan
	if repeat && now.Sub(last.until) <= 30*day {
		b.step = last.step + 1
	}
	b.until = now.Add(min(2*day<<min(b.step, 10), 14*day))
	model[p] = b
}

func compareModel(t *testing.T, seed uint64, l *Ledger, model map[netip.Prefix]modelBan, now time.Time) {
	t.Helper()
	got := standing(l)
	for p, b := range model {
		until, banned := got[p]
		if want := now.Before(b.until); banned != want || want && !until.Equal(b.until) {
			t.Fatalf("seed %d: %v banned %v until %v, want %v until %v", seed, p, banned, until, want, b.until)
		}
		delete(got, p)
	}
	if len(got) > 0 {
		t.Fatalf("seed %d: bans nobody made: %v", seed, got)
	}
}
