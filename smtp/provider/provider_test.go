package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// zone is names with what they have; one with "!" fails.
type zone map[string]string

func (z zone) look(name string) (string, error) {
	if z[name] == "!" {
		return "", errors.New("the zone fails")
	}
	return z[name], nil
}

func (z zone) Text(_ context.Context, name string) ([]string, error) {
	text, err := z.look(name)
	if text == "" {
		return nil, err
	}
	return strings.Split(text, "|"), err
}

func (z zone) Addrs(_ context.Context, name string) (list []netip.Addr, err error) {
	text, err := z.look("A " + name)
	for _, a := range strings.Fields(text) {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, err
}

func (z zone) Exchangers(_ context.Context, name string) ([]string, error) {
	text, err := z.look("MX " + name)
	return strings.Fields(text), err
}

// deep is a chain of includes, wide a record of many networks.
func deep(n int) zone {
	z := zone{}
	for i := range n {
		z[fmt.Sprintf("d%d.example", i)] = fmt.Sprintf("v=spf1 include:d%d.example ip4:192.0.2.%d -all", i+1, i)
	}
	z[fmt.Sprintf("d%d.example", n)] = "v=spf1 ip4:192.0.2.200 -all"
	z["p.example"] = "v=spf1 include:d0.example -all"
	return z
}

func wide(n int) string {
	var b strings.Builder
	b.WriteString("v=spf1")
	for i := range n {
		fmt.Fprintf(&b, " ip4:10.%d.%d.%d", i>>16, i>>8&255, i&255)
	}
	return b.String()
}

// R-CX-04: the sets are read from SPF records, and what they cannot be is refused.
func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		name string
		zone zone
		want string
	}{
		{"plain", zone{"p.example": "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ip4:198.51.100.7 ~all"}, "[192.0.2.0/24 198.51.100.7/32 2001:db8::/32]"},
		{"nested", zone{"p.example": "some text|v=spf1 include:a.example include:b.example ?all", "a.example": "v=spf1 include:c.example -all",
			"b.example": "v=spf1 ip4:198.51.100.0/24 -all", "c.example": "V=SPF1 +ip4:192.0.2.0/24"}, "[192.0.2.0/24 198.51.100.0/24]"},
		{"redirect", zone{"p.example": "v=spf1 redirect=a.example", "a.example": "v=spf1 ip4:192.0.2.0/24 -all"}, "[192.0.2.0/24]"},
		{"redirect behind all", zone{"p.example": "v=spf1 ip4:198.51.100.7 -all redirect=a.example", "a.example": "v=spf1 ip4:192.0.2.0/24"}, "[198.51.100.7/32]"},
		{"macros", zone{"p.example": "v=spf1 exists:%{i}.a.example include:%{d}.x.example ip4:192.0.2.0/24 redirect=%{d}"}, "[192.0.2.0/24]"},
		{"no pass", zone{"p.example": "v=spf1 -ip4:198.51.100.0/24 ~ip4:203.0.113.0/24 ip4:192.0.2.0/24 -all"}, "[192.0.2.0/24]"},
		{"hosts", zone{"p.example": "v=spf1 a mx a:h.example/28 mx:m.example/24//64 -all", "A p.example": "192.0.2.1", "MX p.example": "h.example",
			"A h.example": "192.0.2.70", "MX m.example": "n.example", "A n.example": "198.51.100.9 2001:db8::9"}, "[192.0.2.1/32 192.0.2.64/28 198.51.100.0/24 2001:db8::/64]"},
		{"loop", zone{"p.example": "v=spf1 include:a.example ip4:192.0.2.0/24", "a.example": "v=spf1 include:p.example include:a.example"}, "[192.0.2.0/24]"},
		{"all", zone{"p.example": "v=spf1 ip4:192.0.2.0/24 +all"}, "lets everybody pass"},
		{"everything", zone{"p.example": "v=spf1 ip4:192.0.2.0/24 include:a.example", "a.example": "v=spf1 ip4:0.0.0.0/0"}, "0.0.0.0/0, which is wider"},
		{"everything of IPv6", zone{"p.example": "v=spf1 ip6:::/0"}, "wider than any"},
		{"halves", zone{"p.example": "v=spf1 ip4:64.0.0.0/12 ip4:80.0.0.0/12 ip4:96.0.0.0/12 ip4:112.0.0.0/12 ip4:128.0.0.0/12 ip4:144.0.0.0/12 ip4:160.0.0.0/12 ip4:176.0.0.0/12 ip4:192.0.0.0/12"}, "of all addresses"},
		{"deep enough", deep(7), "[192.0.2.0/31 192.0.2.2/31"},
		{"too deep", deep(12), "records deep"},
		{"huge", zone{"p.example": wide(4001)}, "more than 4000 networks"},
		{"many look-ups", zone{"p.example": "v=spf1" + strings.Repeat(" a:h.example", 61), "A h.example": "192.0.2.1"}, "more than 60 look-ups"},
		{"none", zone{"p.example": "v=spf1 -all"}, "names no networks"},
		{"no record", zone{"p.example": "hello"}, "has no SPF record"},
		{"two records", zone{"p.example": "v=spf1 -all|v=spf1 ip4:192.0.2.0/24"}, "two SPF records"},
		{"broken", zone{"p.example": "v=spf1 ip4:192.0.2.0/240"}, "p.example"},
		{"a part fails", zone{"p.example": "v=spf1 ip4:192.0.2.0/24 include:a.example", "a.example": "!"}, "the zone fails"},
	} {
		set, err := Networks(t.Context(), c.zone, "p.example")
		got := fmt.Sprint(set.List())
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) && !(c.name == "deep enough" && err == nil && set.Len() == 8) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
