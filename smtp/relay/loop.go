package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// ErrLeadsToSelf says that a backend is the appliance itself.
var ErrLeadsToSelf = errors.New("the route leads to ourselves")

// Resolver looks up the addresses of a host, as net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// LeadsToSelf returns an error that Is ErrLeadsToSelf if mail for u would come
// back to one of our listeners: listen are their addresses, local those of this
// machine. Another error means that the host could not be looked up, which a
// start should survive; the loop is then found at the first connection, by our
// own name in its greeting.
func LeadsToSelf(ctx context.Context, u URL, listen []netip.AddrPort, local []netip.Addr, r Resolver) error {
	if u.Network != "tcp" {
		return nil
	}
	port, err := strconv.ParseUint(u.Port, 10, 16)
	if err != nil {
		return fmt.Errorf("check backend %v for a loop: port %q is no number", u, u.Port)
	}
	addrs, err := lookup(ctx, u.Host, r)
	if err != nil {
		return fmt.Errorf("check backend %v for a loop: %w", u, err)
	}
	for _, a := range addrs {
		if listens(netip.AddrPortFrom(a, uint16(port)), listen, local) {
			return fmt.Errorf("%w: backend %v is %v, where we listen; give the address of the mail server behind us", ErrLeadsToSelf, u, a)
		}
	}
	return nil
}

func lookup(ctx context.Context, host string, r Resolver) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// listens says whether a connection to the target ends at one of the listeners:
// at its very address, or, where it listens on all of them, at any of this
// machine.
func listens(target netip.AddrPort, listen []netip.AddrPort, local []netip.Addr) bool {
	for _, l := range listen {
		if l.Port() != target.Port() {
			continue
		}
		if l.Addr().Unmap() == target.Addr() || l.Addr().IsUnspecified() && isLocal(target.Addr(), local) {
			return true
		}
	}
	return false
}

func isLocal(a netip.Addr, local []netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	for _, l := range local {
		if l.Unmap().WithZone("") == a.WithZone("") {
			return true
		}
	}
	return false
}
