package enginetest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mailweir/firewall"
)

// Engine is an engine as the suite sees it. All functions are called in the
// namespace of the server.
type Engine struct {
	Name string
	// Open makes an Enforcer that keeps what it has to pin in dir, and has room
	// for maxBans single addresses of each family (0: its default).
	Open func(dir string, maxBans int) (firewall.Enforcer, error)
	// Remove takes out what Open and its Enforcer have left, without them.
	Remove func(dir string) error
	// Alone returns an error when another engine has anything in the kernel.
	Alone func() error
	// Damage undoes what the engine has put into the kernel, as a stranger
	// with the right to might.
	Damage func(dir string) error
}

// bench is a World with an engine at work in it.
type bench struct {
	*World
	engine Engine
	dir    string
	rules  firewall.Rules
	now    firewall.Enforcer
}

// scene is one test of the suite.
type scene struct {
	name string
	run  func(*bench)
}

// shared are the scenes that need no more than bans, rules and traffic, and so
// can have a World and an open engine between them: opening the packet program
// has the kernel verify it, which takes longer than the scene.
var shared = []scene{
	{"BanDropsAndUnbanLifts", testBan},
	{"AllowWins", testAllow},
	{"OnlyProtectedPorts", testPorts},
	{"Observe", testObserve},
	{"ShorterBanInsideLonger", testNested},
	{"RenewedBanGoesOnCounting", testRenew},
	{"ReplaceIsTheWholeTruth", testReplace},
	{"ReplaceLeavesNoGap", testReplaceGap},
	{"BanThatIsOverIsLifted", testOver},
	{"LocalSourcesPass", testLocal},
	{"NoShapeGetsAround", testShapes},
}

// alone are the scenes that close, kill or damage the engine, or begin with
// counters and buckets that nobody has used.
var alone = []scene{
	{"BanEndsInTheKernel", testExpiry},
	{"ApplyIsATransaction", testTransaction},
	{"DeniedPlaces", testPlaces},
	{"DeniedPlacesInObserve", testPlacesObserved},
	{"PlacesChangeWithoutGap", testPlacesGap},
	{"DeniedPlacesAreMended", testPlacesDamage},
	{"SYNLimit", testSYNLimit},
	{"ExplainLane", testExplain},
	{"KilledHolderLeavesDrops", testKill},
	{"KilledAtEachStep", testKillSwapping},
	{"DamageIsNoticedAndMended", testDamage},
	{"RemoveTakesEverythingOut", testRemove},
	{"RemoveWithoutTable", testRemoveBlind},
}

// Run runs the suite on an engine.
func Run(t *testing.T, e Engine) {
	t.Run("Shared", func(t *testing.T) {
		b := newBench(t, e)
		for _, s := range shared {
			t.Run(s.name, func(t *testing.T) {
				defer func(whole testing.TB) { b.t = whole }(b.t)
				b.t, b.rules = t, plain
				b.configure()
				b.replace(nil)
				b.play(s)
			})
		}
	})
	for _, s := range alone {
		t.Run(s.name, func(t *testing.T) { newBench(t, e).play(s) })
	}
}

func (b *bench) play(s scene) {
	s.run(b)
	b.must("nothing of another engine", b.Inside(b.engine.Alone))
}

// plain are the rules that a scene begins with.
var plain = firewall.Rules{Interfaces: []string{Interface}, Ports: []uint16{Mail}}

func newBench(t *testing.T, e Engine) *bench {
	t.Helper()
	b := &bench{World: NewWorld(t), engine: e, dir: PinDir(t)}
	b.rules = plain
	b.must("nothing of another engine", b.Inside(e.Alone))
	t.Cleanup(func() {
		b.close()
		if err := b.Inside(func() error { return e.Remove(b.dir) }); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	b.open(0)
	b.configure()
	return b
}

func (b *bench) open(maxBans int) {
	b.t.Helper()
	b.must("open", b.Inside(func() (err error) { b.now, err = b.engine.Open(b.dir, maxBans); return err }))
}

func (b *bench) close() {
	if b.now != nil {
		b.must("close", b.Inside(b.now.Close))
		b.now = nil
	}
}

func (b *bench) configure() {
	b.t.Helper()
	b.must("configure", b.Inside(func() error { return b.now.Configure(context.Background(), b.rules) }))
}

func (b *bench) apply(add, del []firewall.Ban) error {
	return b.Inside(func() error { return b.now.Apply(context.Background(), add, del) })
}

func (b *bench) ban(d time.Duration, prefixes ...string) {
	b.t.Helper()
	b.must("ban", b.apply(bans(d, prefixes...), nil))
}

func (b *bench) unban(prefixes ...string) {
	b.t.Helper()
	b.must("unban", b.apply(nil, bans(0, prefixes...)))
}

func (b *bench) replace(list []firewall.Ban) {
	b.t.Helper()
	b.must("replace", b.Inside(func() error { return b.now.Replace(context.Background(), slices.Values(list)) }))
}

func bans(d time.Duration, prefixes ...string) (list []firewall.Ban) {
	for _, p := range prefixes {
		list = append(list, firewall.Ban{Prefix: netip.MustParsePrefix(p), Until: time.Now().Add(d), Reason: firewall.Operator})
	}
	return list
}

// hits is what a ban has dropped; found says whether it stands.
func (b *bench) hits(prefix string) (h firewall.Hits, found bool) {
	b.t.Helper()
	p := netip.MustParsePrefix(prefix)
	b.must("read hits", b.Inside(func() error {
		all, err := b.now.Hits(context.Background(), []netip.Prefix{p})
		h, found = all[p]
		return err
	}))
	return h, found
}

func (b *bench) status() (s firewall.Status) {
	b.t.Helper()
	b.must("status", b.Inside(func() (err error) { s, err = b.now.Status(context.Background()); return err }))
	return s
}

// dropped fails unless a connection of src is dropped by the ban of prefix.
func (b *bench) dropped(src, prefix string) {
	b.t.Helper()
	b.Drops(b.now, src, prefix)
}
