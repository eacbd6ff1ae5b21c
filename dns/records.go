package dns

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Reverse looks up the names of an address (RFC 1035 section 3.5), without
// their final dots.
func (r *Resolver) Reverse(ctx context.Context, a netip.Addr, keep Keep) ([]string, Answer) {
	zone, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return nil, Answer{State: NoName, Err: err}
	}
	ans := r.Ask(ctx, zone, dns.TypePTR, keep)
	var names []string
	for _, rr := range ans.Records {
		names = append(names, strings.TrimSuffix(rr.(*dns.PTR).Ptr, "."))
	}
	return names, ans
}

// Addrs looks up the addresses of a name, of both families. One family that is
// found is enough; a no needs the no of both.
func (r *Resolver) Addrs(ctx context.Context, name string, keep Keep) ([]netip.Addr, Answer) {
	both, ok := r.keptBoth(name)
	if !ok {
		six := make(chan Answer, 1)
		go func() { six <- r.Ask(ctx, name, dns.TypeAAAA, keep) }()
		both[0] = r.Ask(ctx, name, dns.TypeA, keep)
		both[1] = <-six
	}
	var addrs []netip.Addr
	for _, a := range both {
		addrs = append(addrs, addrsOf(a)...)
	}
	return addrs, worst(both)
}

// keptBoth is what is kept of a name's addresses, where it is all there is to
// know.
func (r *Resolver) keptBoth(name string) (both [2]Answer, ok bool) {
	now := r.now()
	for i, kind := range [2]uint16{dns.TypeA, dns.TypeAAAA} {
		if both[i], ok = r.cache.get(question{strings.ToLower(dns.Fqdn(name)), kind}, now); !ok {
			return both, false
		}
	}
	return both, true
}

// Family looks up the addresses of a name of one family: that of like.
func (r *Resolver) Family(ctx context.Context, name string, like netip.Addr, keep Keep) ([]netip.Addr, Answer) {
	kind := dns.TypeA
	if like.Unmap().Is6() {
		kind = dns.TypeAAAA
	}
	a := r.Ask(ctx, name, kind, keep)
	return addrsOf(a), a
}

func addrsOf(a Answer) (addrs []netip.Addr) {
	for _, rr := range a.Records {
		switch rr := rr.(type) {
		case *dns.A:
			if ip, ok := netip.AddrFromSlice(rr.A.To4()); ok {
				addrs = append(addrs, ip)
			}
		case *dns.AAAA:
			if ip, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
				addrs = append(addrs, ip)
			}
		}
	}
	return addrs
}

// worst joins the answers of both families: found in one is found; else a
// failure of one is a failure.
func worst(both [2]Answer) Answer {
	for _, s := range []State{Found, Sick, Failed, NoData} {
		for _, a := range both {
			if a.State == s {
				return a
			}
		}
	}
	return both[0]
}

// MX is one mail exchanger (RFC 5321 section 5.1).
type MX struct {
	Host string // without its final dot; "" is the null MX of RFC 7505
	Pref uint16
}

// Exchangers looks up the mail exchangers of a domain.
func (r *Resolver) Exchangers(ctx context.Context, domain string, keep Keep) ([]MX, Answer) {
	a := r.Ask(ctx, domain, dns.TypeMX, keep)
	var list []MX
	for _, rr := range a.Records {
		mx := rr.(*dns.MX)
		list = append(list, MX{strings.TrimSuffix(mx.Mx, "."), mx.Preference})
	}
	return list, a
}

// Text looks up the TXT records of a name, each of its strings put together.
func (r *Resolver) Text(ctx context.Context, name string, keep Keep) ([]string, Answer) {
	a := r.Ask(ctx, name, dns.TypeTXT, keep)
	var list []string
	for _, rr := range a.Records {
		list = append(list, unescape(strings.Join(rr.(*dns.TXT).Txt, "")))
	}
	return list, a
}

// unescape takes back the presentation form (\" \\ \123) that miekg/dns keeps
// texts in.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && digits(s[i+1:i+4]):
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
		default:
			i++
			b = append(b, s[i])
		}
	}
	return string(b)
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
