package guard

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"mailweir/firewall"
)

// fakeEngine is an engine in memory, with faults to order.
type fakeEngine struct {
	mu      sync.Mutex
	bans    map[netip.Prefix]firewall.Ban
	rules   firewall.Rules
	present bool
	closed  bool
	removed int
	filled  int   // by Replace
	fail    error // of every change
	gone    bool  // Intact says so, until Replace
	hold    chan struct{}

	applying func()                    // called by Apply first; may be nil
	packets  func(netip.Prefix) uint64 // nil: 7 of each
}

func newFake() *fakeEngine { return &fakeEngine{bans: map[netip.Prefix]firewall.Ban{}} }

func (f *fakeEngine) Replace(_ context.Context, bans iter.Seq[firewall.Ban]) error {
	if f.hold != nil {
		<-f.hold
	}
	next := map[netip.Prefix]firewall.Ban{}
	for b := range bans {
		next[b.Prefix] = b
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.bans, f.gone, f.present = next, false, true
	f.filled++
	return nil
}

func (f *fakeEngine) Apply(_ context.Context, add, del []firewall.Ban) error {
	if f.applying != nil {
		f.applying()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	for _, b := range del {
		delete(f.bans, b.Prefix)
	}
	for _, b := range add {
		f.bans[b.Prefix] = b
	}
	return nil
}

func (f *fakeEngine) Configure(_ context.Context, r firewall.Rules) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = r
	return f.fail
}

func (f *fakeEngine) Hits(_ context.Context, prefixes []netip.Prefix) (map[netip.Prefix]firewall.Hits, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hits := map[netip.Prefix]firewall.Hits{}
	for _, p := range prefixes {
		if _, ok := f.bans[p]; ok {
			hits[p] = firewall.Hits{Packets: 7}
			if f.packets != nil {
				hits[p] = firewall.Hits{Packets: f.packets(p)}
			}
		}
	}
	return hits, nil
}

func (f *fakeEngine) Counters(ctx context.Context) (firewall.Counters, error) {
	s, err := f.Status(ctx)
	return firewall.Counters{Reasons: s.Counters, Places: s.Places}, err
}

func (f *fakeEngine) Status(context.Context) (firewall.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return firewall.Status{Engine: "fake", Bans: len(f.bans), Counters: map[string]uint64{"banned": 3}}, nil
}

func (f *fakeEngine) Intact(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return errors.New("the table is gone")
	}
	return nil
}

func (f *fakeEngine) Remove(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bans, f.present = map[netip.Prefix]firewall.Ban{}, false
	f.removed++
	return nil
}

func (f *fakeEngine) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *fakeEngine) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fakeEngine) has(prefix string) (yes bool) {
	f.with(func() { _, yes = f.bans[netip.MustParsePrefix(prefix)] })
	return yes
}

func (f *fakeEngine) all() (list []netip.Prefix) {
	f.with(func() { list = slices.SortedFunc(maps.Keys(f.bans), netip.Prefix.Compare) })
	return list
}

// rig is a guard that runs, with its folders.
type rig struct {
	t   testing.TB
	cfg Config
	s   *Server
	op  *Operator
	end func()
}

// newRig starts a guard on fresh folders; change may be nil.
func newRig(t testing.TB, engines []Engine, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, cfg: Config{
		RunDir: t.TempDir(), StateDir: t.TempDir(), Engines: engines,
		Policy: Policy{Enabled: true, Ports: []uint16{25}, Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:25"), netip.MustParseAddrPort("[::]:25")}},
	}}
	if change != nil {
		change(&r.cfg)
	}
	r.op = NewOperator(r.cfg.RunDir)
	r.start()
	t.Cleanup(func() { r.end() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	ready := make(chan struct{})
	r.cfg.Ready = func() { close(ready) }
	s, err := New(r.cfg)
	check(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		r.t.Fatalf("guard ended: %v", err)
	case <-time.After(20 * time.Second):
		r.t.Fatal("guard does not get ready")
	}
	r.s = s
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("guard ended with %v", err)
		}
	})
}

// restart ends this guard and starts another one on the same folders.
func (r *rig) restart(engines []Engine) {
	r.t.Helper()
	r.end()
	r.cfg.Engines = engines
	r.start()
}

func (r *rig) client() *Client {
	c := NewClient(r.cfg.RunDir)
	r.t.Cleanup(func() { c.Close() })
	return c
}

func one(f *fakeEngine) []Engine { return []Engine{{Name: "fake", Enforcer: f}} }
