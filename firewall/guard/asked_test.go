package guard

import (
	"context"
	"iter"
	"sync"
	"testing"

	"mailweir/firewall"
)

// slowEngine says how it stands only between changes, as nftables does.
type slowEngine struct {
	*fakeEngine
	lock  sync.Mutex
	began chan struct{} // has a word when Replace has begun
	hold  chan struct{} // Replace waits for a word of it; nil: it does not
}

func (s *slowEngine) Replace(ctx context.Context, bans iter.Seq[firewall.Ban]) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.hold != nil {
		select {
		case s.began <- struct{}{}:
		default:
		}
		<-s.hold
	}
	return s.fakeEngine.Replace(ctx, bans)
}

func (s *slowEngine) Status(ctx context.Context) (firewall.Status, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.fakeEngine.Status(ctx)
}

// While an engine writes for long, guard says how it stood and how much is still
// to be written, bans go on, and a list is written and lifted in one transaction.
func TestStatusDoesNotWaitForAnEngine(t *testing.T) {
	needRoot(t)
	const many = 3 * batch
	first, second := newFake(), &slowEngine{fakeEngine: newFake(), began: make(chan struct{}, 1)}
	g := newRig(t, []Engine{{Name: "xdp", Enforcer: first}, {Name: "nft", Enforcer: second}}, nil)
	g.ban("203.0.113.7/32")
	eventually(t, "the ban in both", func() bool { return second.has("203.0.113.7/32") })
	if e := g.status().Engines[1]; e.Bans != 1 || e.Busy {
		t.Errorf("the second engine at rest: %+v", e)
	}
	second.hold = make(chan struct{})
	release := sync.OnceFunc(func() { close(second.hold) })
	defer release()
	_, wrong := g.s.ban(ctx, orders(0, many))
	if wrong != nil {
		t.Fatal(wrong)
	}
	eventually(t, "the engine at work", func() bool { return len(second.began) > 0 })
	e := g.status().Engines
	if e[0].Bans != many+1 || e[0].Busy || e[0].Pending != 0 {
		t.Errorf("the engine that is not at work: %+v", e[0])
	}
	if !e[1].Working || !e[1].Busy || e[1].Bans != 1 || e[1].Pending != many {
		t.Errorf("the engine that writes: %+v", e[1])
	}
	if why := must(g.op.Explain(ctx, host(5).Addr()))(t); !why.Banned || len(why.Bans) != 1 {
		t.Errorf("who is banned by the list: %+v", why)
	}
	g.ban("203.0.113.8/32")
	release()
	eventually(t, "all in both engines", func() bool {
		e := g.status().Engines
		return e[1].Bans == many+2 && e[1].Pending == 0 && !e[1].Busy
	})

	events, filled := len(g.s.logs.history.since(0).Events), 0
	second.with(func() { filled = second.filled })
	c := must(g.op.Unban(ctx, pfx("11.0.0.0/8")))(t)
	if c.Count != many {
		t.Errorf("%d bans lifted, want %d", c.Count, many)
	}
	eventually(t, "two bans in both engines", func() bool { return len(first.all()) == 2 && len(second.all()) == 2 })
	second.with(func() { filled = second.filled - filled })
	if n := len(g.s.logs.history.since(0).Events) - events; n != 1 || filled > 2 {
		t.Errorf("lifting a list made %d events and was written %d times", n, filled)
	}
}
