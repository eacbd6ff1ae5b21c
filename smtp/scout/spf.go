package scout

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"blitiri.com.ar/go/spf"

	"mailweir/dns"
	"mailweir/smtp"
)

// spf evaluates RFC 7208 for MAIL FROM, or for the HELO name where the sender is
// null (section 2.4); "": nothing is known, by our own fault.
func (s *Scout) spf(ctx context.Context, peer netip.Addr, helo, from string) smtp.SPF {
	helo = strings.TrimSuffix(helo, ".")
	local, domain := "postmaster", helo
	if i := strings.LastIndexByte(from, '@'); i >= 0 {
		if domain = from[i+1:]; !strings.ContainsAny(from[:i], `@"`) { // the library splits at the first
			local = from[:i]
		}
	}
	if !strings.Contains(domain, ".") || strings.HasPrefix(domain, "[") {
		return smtp.SPF{Result: string(spf.None)} // section 4.3
	}
	result := s.checkHost(ctx, peer, helo, local+"@"+domain)
	wide := result == string(spf.Pass) && s.checkHost(ctx, neighbour(peer), helo, local+"@"+domain) == result
	return smtp.SPF{Result: result, Wide: wide}
}

// checkHost is the function of RFC 7208 section 4.
func (s *Scout) checkHost(ctx context.Context, peer netip.Addr, helo, sender string) string {
	r := &spfResolver{fullResolver{dns: s.dns}}
	result, _ := spf.CheckHostWithSender(net.IP(peer.Unmap().AsSlice()), helo, sender, spf.WithContext(ctx), spf.WithResolver(r))
	if r.unknown(ctx) {
		return ""
	}
	return string(result)
}

// neighbour is the same host in the other half of the /15 (IPv6: /31) that an
// address is in. A network wider than /16 has both, and so has what means all
// (+all, exists that says yes to everybody): a pass for both vouches for no one.
func neighbour(peer netip.Addr) netip.Addr {
	b := peer.Unmap().AsSlice()
	last := 1 // byte of a /16
	if len(b) == 16 {
		last = 3
	}
	b[last] ^= 1
	a, _ := netip.AddrFromSlice(b)
	return a
}

// spfResolver gives the library records only that have no mistake anywhere, of
// the domain and of what it includes or redirects to.
type spfResolver struct{ fullResolver }

func (r *spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	list, err := r.fullResolver.LookupTXT(ctx, name)
	for _, text := range list {
		if term := badTerm(text); spfVersion(text) && term != "" {
			return nil, &net.DNSError{Err: "no term of SPF: " + term, Name: name} // neither temporary nor not found: permerror
		}
	}
	return list, err
}

// fullResolver is our resolver as libraries want it. The limits of section 4.6.4,
// ten look-ups of which two may be void, are the library's.
type fullResolver struct {
	dns  *dns.Resolver
	sick atomic.Bool
}

// unknown says whether what came of it tells nothing: our resolver is sick, or
// nobody waits any more.
func (r *fullResolver) unknown(ctx context.Context) bool {
	return r.sick.Load() || context.Cause(ctx) == context.Canceled
}

// fault is what libraries tell answers apart by: a definite no, which counts
// as a void look-up, and a failure, which makes the result temperror.
func (r *fullResolver) fault(name string, a dns.Answer) error {
	switch {
	case a.State == dns.Found:
		return nil
	case a.State.No():
		return &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
	case a.State == dns.Sick:
		r.sick.Store(true)
	}
	return &net.DNSError{Err: "look-up failed", Name: name, IsTemporary: true, IsTimeout: true}
}

func (r *fullResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	list, a := r.dns.Text(ctx, name, dns.Policy)
	return list, r.fault(name, a)
}

func (r *fullResolver) LookupMX(ctx context.Context, name string) (list []*net.MX, err error) {
	found, a := r.dns.Exchangers(ctx, name, dns.Policy)
	for _, mx := range found {
		list = append(list, &net.MX{Host: mx.Host + ".", Pref: mx.Pref})
	}
	return list, r.fault(name, a)
}

func (r *fullResolver) LookupIPAddr(ctx context.Context, host string) (list []net.IPAddr, err error) {
	addrs, a := r.dns.Addrs(ctx, host, dns.Policy)
	for _, ip := range addrs {
		list = append(list, net.IPAddr{IP: ip.AsSlice()})
	}
	return list, r.fault(host, a)
}

func (r *fullResolver) LookupAddr(ctx context.Context, addr string) (names []string, err error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, &net.DNSError{Err: err.Error(), Name: addr, IsNotFound: true}
	}
	list, a := r.dns.Reverse(ctx, ip, dns.Policy)
	for _, n := range list {
		names = append(names, n+".")
	}
	return names, r.fault(addr, a)
}
