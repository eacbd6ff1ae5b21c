package mailrole

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"mailweir/dns"
)

// providerDNS is our resolver as package provider asks it.
type providerDNS struct{ *dns.Resolver }

var errDNS = errors.New("DNS has no answer")

// isDNS says whether an error is one of DNS, and not of what it said.
func isDNS(err error) bool { return errors.Is(err, errDNS) }

func unanswered(name string, a dns.Answer) error {
	if a.State == dns.Found || a.State.No() {
		return nil
	}
	return fmt.Errorf("%w for %s: %v", errDNS, name, a.Err)
}

// Text implements provider.DNS.
func (p providerDNS) Text(ctx context.Context, name string) ([]string, error) {
	list, a := p.Resolver.Text(ctx, name, dns.Policy)
	return list, unanswered(name, a)
}

// Addrs implements provider.DNS.
func (p providerDNS) Addrs(ctx context.Context, name string) ([]netip.Addr, error) {
	list, a := p.Resolver.Addrs(ctx, name, dns.Policy)
	return list, unanswered(name, a)
}

// Exchangers implements provider.DNS.
func (p providerDNS) Exchangers(ctx context.Context, name string) (hosts []string, err error) {
	list, a := p.Resolver.Exchangers(ctx, name, dns.Policy)
	for _, mx := range list {
		hosts = append(hosts, mx.Host)
	}
	return hosts, unanswered(name, a)
}
