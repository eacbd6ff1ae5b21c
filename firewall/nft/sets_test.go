package nft

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestIntervals(t *testing.T) {
	for _, c := range []struct{ prefixes, want string }{
		{"", ""},
		{"192.0.2.1/32", "192.0.2.1-192.0.2.2"},
		{"10.0.0.0/8 10.1.0.0/16", "10.0.0.0-11.0.0.0"},
		{"10.1.0.0/16 10.0.0.0/8", "10.0.0.0-11.0.0.0"},
		{"10.0.0.0/8 10.0.0.0/9 10.0.0.0/32", "10.0.0.0-11.0.0.0"},
		{"10.0.0.0/32 10.0.0.0/8", "10.0.0.0-11.0.0.0"},
		{"192.0.2.0/25 192.0.2.128/25", "192.0.2.0-192.0.3.0"},
		{"192.0.2.4/32 192.0.2.1/32 192.0.2.2/31", "192.0.2.1-192.0.2.5"},
		{"192.0.2.1/32 192.0.2.3/32", "192.0.2.1-192.0.2.2 192.0.2.3-192.0.2.4"},
		{"255.255.255.255/32", "255.255.255.255-"},
		{"0.0.0.0/0 10.0.0.0/8", "0.0.0.0-"},
		{"192.0.2.1/32 224.0.0.0/3 240.0.0.0/8", "192.0.2.1-192.0.2.2 224.0.0.0-"},
		{"2001:db8::/32", "2001:db8::-2001:db9::"},
		{"::/127 ffff::/16", "::-::2 ffff::-"},
	} {
		var list []netip.Prefix
		family := 4
		for _, s := range strings.Fields(c.prefixes) {
			p := netip.MustParsePrefix(s)
			list = append(list, p)
			if p.Addr().Is6() {
				family = 6
			}
		}
		list = append(list, netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("fd00::/8"))[:len(list)]
		var got strings.Builder
		for _, e := range intervals(list, family) {
			a, _ := netip.AddrFromSlice(e.Key)
			switch {
			case e.IntervalEnd:
				fmt.Fprint(&got, a)
			default:
				fmt.Fprintf(&got, " %s-", a)
			}
		}
		if s := strings.TrimSpace(got.String()); s != c.want {
			t.Errorf("%s: %q, not %q", c.prefixes, s, c.want)
		}
	}
}

func TestSetNames(t *testing.T) {
	for p, name := range map[string]string{"192.0.2.1/32": "ban4", "10.0.0.0/8": "ban4_8", "::1/128": "ban6", "2001:db8::/64": "ban6_64", "::/0": "ban6_0"} {
		s := setOf(netip.MustParsePrefix(p))
		if s.name() != name {
			t.Errorf("%s: %s, not %s", p, s.name(), name)
		}
		if back, ok := parseSet(name); !ok || back != s {
			t.Errorf("%s: %v, %v", name, back, ok)
		}
	}
	for _, name := range []string{"", "ban", "ban5", "ban4_x", "ban4_032", "allow4", "ports", "ban4_"} {
		if s, ok := parseSet(name); ok {
			t.Errorf("%s is taken for %v", name, s)
		}
	}
}

// What a broken or hostile answer holds is never read beyond.
func FuzzRead(f *testing.F) {
	s := banSet{4, 32}
	list, _ := s.appendList(nil, []element{{prefix: netip.MustParsePrefix("192.0.2.1/32"), left: 1e9, packets: 7}}, true)
	sock := &socket{}
	answer := append(sock.message(nil, request(0xc), 2, 1, 0), list...)
	seal(answer, 0)
	f.Add(answer)
	f.Add(answer[:len(answer)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = read(b, 1, func(body []byte) error { s.readList(body, func(element) {}); return nil })
	})
}
