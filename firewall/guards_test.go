package firewall

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Veto against the plain reading of its comment, for random prefixes in a small
// space where nearly everything touches something.
func TestVetoAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	names := []string{GuardAllow, GuardBackend}
	for range 3000 {
		var list []Guarded
		for range rnd.IntN(6) {
			list = append(list, Guarded{names[rnd.IntN(2)], randomPrefix(rnd)})
		}
		g := NewGuards(list)
		for range 20 {
			p := randomPrefix(rnd)
			veto, touches := false, false
			for _, e := range list {
				if !e.Prefix.Overlaps(p) {
					continue
				}
				touches = true
				inside := e.Prefix.Bits() <= p.Bits()
				veto = veto || inside || e.Guard != GuardAllow
			}
			if _, got := g.Veto(p); got != veto {
				t.Fatalf("veto of %v by %v: %v, want %v", p, list, got, veto)
			}
			if got := g.Touches(p); got != touches {
				t.Fatalf("%v touches %v: %v, want %v", p, list, got, touches)
			}
		}
	}
}

func randomPrefix(rnd *rand.Rand) netip.Prefix {
	if rnd.IntN(2) == 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(rnd.IntN(256))}), 24+rnd.IntN(9)).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x20, 15: byte(rnd.IntN(256))}), 120+rnd.IntN(9)).Masked()
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7/24": "203.0.113.0/24", "::ffff:203.0.113.7/128": "203.0.113.7/32", "::ffff:203.0.113.7/120": "203.0.113.0/24",
		"2001:db8::1/64": "2001:db8::/64", "::ffff:0:0/96": "0.0.0.0/0", "::/0": "::/0",
	} {
		if got := Canonical(netip.MustParsePrefix(in)); got.String() != want {
			t.Errorf("Canonical(%s) = %v, want %s", in, got, want)
		}
	}
	for _, in := range []string{"::ffff:0:0/90"} {
		if got := Canonical(netip.MustParsePrefix(in)); got.IsValid() {
			t.Errorf("Canonical(%s) = %v, want none: half of it is IPv4", in, got)
		}
	}
}
