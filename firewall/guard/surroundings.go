package guard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// surroundings is what the kernel says of this machine's network.
type surroundings struct {
	addresses []ifaceAddr
	gateways  []netip.Addr // of default routes
	names     []string     // of all interfaces
}

type ifaceAddr struct {
	iface    string
	loopback bool
	addr     netip.Addr
}

// lookAround asks the kernel.
func lookAround() (surroundings, error) {
	var around surroundings
	links, err := netlink.LinkList()
	if err != nil {
		return around, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		around.names = append(around.names, l.Attrs().Name)
		list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return around, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range list {
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				around.addresses = append(around.addresses, ifaceAddr{
					l.Attrs().Name, l.Attrs().Flags&net.FlagLoopback != 0, addr.Unmap(),
				})
			}
		}
	}
	around.gateways, err = defaultGateways()
	return around, err
}

func defaultGateways() (gateways []netip.Addr, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil {
				if ones, _ := r.Dst.Mask.Size(); ones > 0 {
					continue
				}
			}
			gateways = appendGateway(gateways, r.Gw)
			for _, hop := range r.MultiPath {
				gateways = appendGateway(gateways, hop.Gw)
			}
		}
	}
	return gateways, nil
}

func appendGateway(list []netip.Addr, ip net.IP) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok {
		return appendNew(list, a.Unmap())
	}
	return list
}

// interfaces are those to stand on, and what is wrong with the wish of the
// configuration. Loopback is left out: its sources are never dropped.
func (a surroundings) interfaces(p Policy) (names, problems []string) {
	if len(p.Interfaces) > 0 {
		for _, name := range p.Interfaces {
			if slices.Contains(a.names, name) {
				names = appendNew(names, name)
			} else {
				problems = append(problems, fmt.Sprintf("there is no interface %s: correct firewall.interfaces, or bring it up (it is taken as soon as it comes)", name))
			}
		}
		return names, problems
	}
	for _, have := range a.addresses {
		if !have.loopback && listensOn(p.Listen, have.addr) {
			names = appendNew(names, have.iface)
		}
	}
	slices.Sort(names)
	return names, nil
}

func listensOn(listen []netip.AddrPort, a netip.Addr) bool {
	return slices.ContainsFunc(listen, func(l netip.AddrPort) bool {
		want := l.Addr().Unmap()
		return want == a || want.IsUnspecified() && (want.Is6() || a.Is4())
	})
}

// guards is who is never banned: what the machine itself tells, what the
// policy names, what host names stand for, and who is allowed.
func (s *Server) guards(around surroundings, p Policy) []firewall.Guarded {
	var list []firewall.Guarded
	one := func(guard string, a netip.Addr) {
		list = append(list, firewall.Guarded{Guard: guard, Prefix: netip.PrefixFrom(a.WithZone(""), a.BitLen())})
	}
	for _, a := range around.addresses {
		if !a.loopback || !a.addr.IsLoopback() {
			one(firewall.GuardOwn, a.addr)
		}
	}
	for _, a := range around.gateways {
		one(firewall.GuardGateway, a)
	}
	for _, protected := range p.Protect {
		for _, prefix := range protected.Prefixes {
			list = append(list, firewall.Guarded{Guard: protected.Name, Prefix: prefix})
		}
		for _, host := range protected.Hosts {
			for _, a := range s.hosts.addresses(host) {
				one(protected.Name, a)
			}
		}
	}
	for _, e := range s.allow.list() {
		list = append(list, firewall.Guarded{Guard: firewall.GuardAllow, Prefix: e.Prefix})
	}
	return list
}

// allowedInKernel are the guarded prefixes that the engines must let in, above
// every ban and rule. Loopback and neighbours pass them anyway.
func allowedInKernel(g *firewall.Guards) (prefixes []netip.Prefix) {
	for _, e := range g.List() {
		switch e.Guard {
		case firewall.GuardLoopback, firewall.GuardLinkLocal, firewall.GuardMulticast:
		default:
			if a := e.Prefix.Addr(); !a.IsUnspecified() && !a.IsLinkLocalUnicast() {
				prefixes = append(prefixes, e.Prefix)
			}
		}
	}
	return prefixes
}

// watchNetwork calls changed when it has begun to watch, and soon after
// interfaces, addresses or routes changed, until ctx ends. Changes that come
// together are one.
func watchNetwork(ctx context.Context, changed func()) error {
	links := make(chan netlink.LinkUpdate, 16)
	addrs := make(chan netlink.AddrUpdate, 16)
	routes := make(chan netlink.RouteUpdate, 16)
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	if err := netlink.RouteSubscribe(routes, ctx.Done()); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		var open bool
		select {
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			changed()
			continue
		case _, open = <-links:
		case _, open = <-addrs:
		case u, ok := <-routes:
			if open = ok; ok && u.Type != unix.RTM_NEWROUTE && u.Type != unix.RTM_DELROUTE {
				continue
			}
		}
		if !open && ctx.Err() == nil {
			return fmt.Errorf("the kernel ended the watch of the network")
		}
		quiet.Reset(100 * time.Millisecond)
	}
}
