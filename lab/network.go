package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// parsePrefixes reads addresses and prefixes; an address is a prefix of its
// whole length.
func parsePrefixes(addrs []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range addrs {
		if a, err := netip.ParseAddr(s); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// wire is the link between the internet and one host: the addresses that both
// ends answer on, from ranges that no host of a lab may own.
type wire struct {
	index         int
	near4, far4   netip.Addr // internet, host
	near6, far6   netip.Addr
	router, inner string // names of the two ends
}

func newWire(index int) wire {
	hi, lo := byte(index>>6), byte(index<<2)
	v6 := func(end byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0xfd, 'l', 'a', 'b', 0, 0, byte(index >> 8), byte(index), 15: end})
	}
	return wire{
		index: index,
		near4: netip.AddrFrom4([4]byte{100, 64, hi, lo | 1}), far4: netip.AddrFrom4([4]byte{100, 64, hi, lo | 2}),
		near6: v6(1), far6: v6(2),
		router: fmt.Sprintf("host%d", index), inner: "eth0",
	}
}

// connect joins the host to the internet.
func (h *Host) connect(prefixes []netip.Prefix) error {
	net := h.lab.internet
	h.lab.mu.Lock()
	w := newWire(len(h.lab.hosts))
	h.lab.mu.Unlock()
	if err := h.plug(net, w); err != nil {
		return fmt.Errorf("plug it in: %w", err)
	}
	h.outer = w.router
	for _, p := range prefixes {
		if err := h.own(p); err != nil {
			return fmt.Errorf("give it %s: %w", p, err)
		}
		if err := net.route(w.router, p, w.far(p)); err != nil {
			return fmt.Errorf("route %s to it: %w", p, err)
		}
	}
	return h.defaultRoutes(w, prefixes)
}

// Outside runs f in the internet, for what sends frames to the host of which no
// host is the source. dev is the end there of the link to the host.
func (h *Host) Outside(f func(dev string) error) error {
	return h.lab.internet.Do(func() error { return f(h.outer) })
}

func (w wire) far(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return w.far4
	}
	return w.far6
}

// plug makes the pair of interfaces, one queue each: a native XDP program on
// veth needs no fewer receiving queues than its peer has sending ones.
func (h *Host) plug(internet *Host, w wire) error {
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: w.router, NumTxQueues: 1, NumRxQueues: 1, MTU: 1500},
		PeerName:      w.inner,
		PeerNamespace: netlink.NsFd(h.ns[0].file.Fd()),
	}
	if err := internet.link.LinkAdd(pair); err != nil {
		return err
	}
	if err := internet.raise(w.router, w.near4, w.near6); err != nil {
		return err
	}
	if err := h.raise(w.inner, w.far4, w.far6); err != nil {
		return err
	}
	// With GRO the receiving side polls, so that frames which a program of the
	// other side redirects here arrive even before a native program is attached.
	return h.Do(func() error { return setGRO(w.inner) })
}

// raise gives a link its two addresses and brings it up.
func (h *Host) raise(name string, addrs ...netip.Addr) error {
	link, err := h.link.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		bits := 30
		if a.Is6() {
			bits = 64
		}
		if err := h.link.AddrAdd(link, address(netip.PrefixFrom(a, bits))); err != nil {
			return err
		}
	}
	return h.link.LinkSetUp(link)
}

// address skips the search for duplicates, which would keep an IPv6 address
// from use for a second.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// own makes the addresses of p the host's: a single one is put on its
// interface; of a prefix every one is, by a local route.
func (h *Host) own(p netip.Prefix) error {
	if p.IsSingleIP() {
		h.addrs = append(h.addrs, p.Addr())
		eth0, err := h.link.LinkByName("eth0")
		if err != nil {
			return err
		}
		return h.link.AddrAdd(eth0, address(p))
	}
	lo, err := h.link.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.link.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// route tells the internet the way to p.
func (h *Host) route(dev string, p netip.Prefix, via netip.Addr) error {
	link, err := h.link.LinkByName(dev)
	if err != nil {
		return err
	}
	return h.link.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Gw: via.AsSlice()})
}

// defaultRoutes leads everything else to the internet, from the host's first
// address of each family.
func (h *Host) defaultRoutes(w wire, prefixes []netip.Prefix) error {
	eth0, err := h.link.LinkByName(w.inner)
	if err != nil {
		return err
	}
	for _, gateway := range []netip.Addr{w.near4, w.near6} {
		all, _ := gateway.Prefix(0)
		r := &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: ipNet(all), Gw: gateway.AsSlice()}
		if src := h.source(gateway, prefixes); src.IsValid() {
			r.Src = src.AsSlice()
		}
		if err := h.link.RouteAdd(r); err != nil {
			return err
		}
	}
	return nil
}

// source is where the host's connections come from. The kernel takes only an
// address that an interface carries, so one of a prefix is put on as well.
func (h *Host) source(family netip.Addr, prefixes []netip.Prefix) netip.Addr {
	if a := h.first(func(a netip.Addr) bool { return a.Is4() == family.Is4() }); a.IsValid() {
		return a
	}
	for _, p := range prefixes {
		if p.Addr().Is4() != family.Is4() {
			continue
		}
		a := p.Addr().Next()
		if h.own(netip.PrefixFrom(a, a.BitLen())) == nil {
			return a
		}
	}
	return netip.Addr{}
}

func (h *Host) raiseLoopback() error {
	lo, err := h.link.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.link.LinkSetUp(lo); err != nil {
		return err
	}
	return h.sysctl(map[string]string{
		"net/ipv6/conf/all/accept_dad":     "0",
		"net/ipv6/conf/default/accept_dad": "0",
		// An address of a local prefix may be bound to, though no interface
		// carries it; IPv4 needs no permission for that.
		"net/ipv6/ip_nonlocal_bind": "1",
	})
}

// forward makes the host a router.
func (h *Host) forward() error {
	return h.sysctl(map[string]string{
		"net/ipv4/ip_forward":              "1",
		"net/ipv6/conf/all/forwarding":     "1",
		"net/ipv6/conf/default/accept_dad": "0",
	})
}

func (h *Host) sysctl(settings map[string]string) error {
	return h.Do(func() error {
		for name, value := range settings {
			if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}
