package guard

import (
	"context"
	"testing"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/geo"
	"mailweir/ref"
)

// geoRig bans who comes from France: the lower half of 203.0.113.0/24.
func geoRig(t *testing.T, f *fakeEngine) *rig {
	world := enginetest.Worlds(t)[0]
	return newRig(t, one(f), func(c *Config) {
		c.Policy.World, c.Policy.Banish = world, []geo.Rule{{Country: "FR"}}
	})
}

func (g *rig) geo(t *testing.T, fd int) (r Result) {
	t.Helper()
	eventually(t, "an answer of guard", func() (done bool) {
		var err error
		r, err = g.client().offend(context.Background(), fd, request{reason: firewall.Geo, ref: ref.New()})
		return err == nil
	})
	return r
}

// geo.ban: the handshake alone convicts, where guard itself finds that the
// source comes from a place that the policy bans; the mail role's word does not.
func TestConnectionFromABannedPlace(t *testing.T) {
	w := newWorld(t)
	f := newFake()
	g := geoRig(t, f)
	l := w.listen(edge4)
	for from, want := range map[string]Outcome{"203.0.113.7": Banned, "203.0.113.200": Elsewhere} {
		if r := g.geo(t, silent(t, w, l, from)); r.Outcome != want {
			t.Errorf("%s, who said nothing: guard answers %v, want %v", from, r.Outcome, want)
		}
	}
	if got := f.all(); len(got) != 1 || !f.has("203.0.113.7/32") {
		t.Errorf("banned are %v", got)
	}
}

// Nor can it be had banned who did not connect, from wherever.
func TestLiesAboutPlaces(t *testing.T) {
	w := newWorld(t)
	f := newFake()
	g := geoRig(t, f)
	for name, fd := range map[string]int{
		"not connected": boundSocket(t), "disconnected": disconnected(t, w, w.listen(edge4)),
	} {
		if r := g.geo(t, fd); r.Outcome != NotAccepted || len(f.all()) > 0 {
			t.Errorf("%s: guard answers %v, banned are %v", name, r.Outcome, f.all())
		}
	}
}
