package prefix

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"
)

func parse(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Of IPv6 only a small part is given out, and a share of all of it would make a
// whole region of the world look small.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		list []netip.Prefix
		want float64
	}{
		{nil, 0},
		{parse("0.0.0.0/0"), 1},
		{parse("192.0.2.0/24", "198.51.100.0/24"), 2.0 / (1 << 24)},
		{parse("::/0"), 1},
		{parse("::/2"), 1},
		{parse("2000::/3"), 1},
		{parse("2a00::/12"), 1.0 / 8},
		{parse("2001:db8::/32"), 1.0 / (1 << 23)},
		{parse("fc00::/7"), 1.0 / 128},
	} {
		if got := New(c.list).Share(); math.Abs(got-c.want) > c.want/1e6 {
			t.Errorf("%v has a share of %v, want %v", c.list, got, c.want)
		}
	}
}

func TestOverlapping(t *testing.T) {
	s := New(parse("10.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25", "198.51.100.7/32", "2001:db8::/32"))
	for p, want := range map[string]string{
		"10.1.2.3/32": "[10.0.0.0/8]", "192.0.2.0/24": "[192.0.2.0/25 192.0.2.128/25]", "192.0.0.0/8": "[192.0.2.0/25 192.0.2.128/25]",
		"198.51.100.0/24": "[198.51.100.7/32]", "2001:db8:1::/48": "[2001:db8::/32]", "203.0.113.0/24": "[]", "::/0": "[2001:db8::/32]",
	} {
		if got := fmt.Sprint(s.Overlapping(netip.MustParsePrefix(p))); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

// An operator may have let in as many as a list has.
func TestWithoutManyOfMany(t *testing.T) {
	const n = 60_000
	var all []netip.Prefix
	for i := range n {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	s, begun := New(all), time.Now()
	if got := s.Without(all[1:]).List(); len(got) != 1 || got[0] != all[0] {
		t.Errorf("%d are left", len(got))
	}
	if took := time.Since(begun); took > time.Minute { // each against each takes many
		t.Errorf("it took %v", took)
	}
}
