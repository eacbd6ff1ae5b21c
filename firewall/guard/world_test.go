package guard

import (
	"testing"

	"mailweir/firewall"
	"mailweir/geo"
)

// slowWorld is an engine whose world takes as long as the test wants.
type slowWorld struct {
	*fakeEngine
	begun, end chan struct{}
}

func (s slowWorld) Prepare(*geo.Tables) error {
	select {
	case <-s.begun:
	default:
		close(s.begun)
	}
	<-s.end
	return nil
}

// A ban does not wait until another world is loaded (R-BX-15): that takes the
// kernel a quarter of a second.
func TestBansGoOnWhileAWorldLoads(t *testing.T) {
	needRoot(t)
	f := slowWorld{newFake(), make(chan struct{}), make(chan struct{})}
	g := newRig(t, []Engine{{Name: "xdp", Enforcer: f}}, nil)
	world, done := new(geo.Tables), make(chan struct{})
	go func() {
		g.s.SetWorld(ctx, world)
		close(done)
	}()
	<-f.begun
	g.s.order.Lock()
	sentence := g.s.ledger.Convict(host(1).Addr(), firewall.Harvest, 1)
	enforced := g.s.engines.apply(ctx, []firewall.Ban{sentence.Ban}, nil)
	g.s.order.Unlock()
	if !enforced {
		t.Error("the ban waits for the world")
	}
	close(f.end)
	<-done
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rules.World != world {
		t.Error("the world is not in force")
	}
}
