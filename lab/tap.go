package lab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
)

// Seat is the place of a host in the network, for a virtual machine that takes
// it.
type Seat struct {
	Namespace string         // path of the network namespace that has the tap
	Tap       string         // name of the tap interface
	Addresses []netip.Prefix // what the machine has to call its own
	Gateways  []netip.Addr
}

// Seat takes the host's addresses off its link and bridges that to a tap: who
// is at the other end of it, such as a virtual machine, is the host from now on.
func (h *Host) Seat() Seat {
	h.lab.t.Helper()
	s := Seat{Namespace: fmt.Sprintf("/proc/%d/ns/net", h.PID()), Tap: "tap0"}
	if err := h.vacate(&s); err != nil {
		h.lab.t.Fatalf("hand over the place of %s: %v", h.Name, err)
	}
	return s
}

func (h *Host) vacate(s *Seat) error {
	eth0, err := h.link.LinkByName("eth0")
	if err != nil {
		return err
	}
	routes, err := h.link.RouteList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if gateway, ok := netip.AddrFromSlice(r.Gw); ok {
			s.Gateways = append(s.Gateways, gateway.Unmap())
		}
	}
	addrs, err := h.link.AddrList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		if ip.IsLinkLocalUnicast() {
			continue
		}
		bits, _ := a.Mask.Size()
		s.Addresses = append(s.Addresses, netip.PrefixFrom(ip.Unmap(), bits))
		if err := h.link.AddrDel(eth0, &a); err != nil {
			return err
		}
	}
	// The tap is made from outside: the host has no /dev/net/tun.
	script := strings.ReplaceAll(`ip link add br0 type bridge forward_delay 0 && ip tuntap add dev TAP mode tap &&
		ip link set eth0 master br0 && ip link set TAP master br0 && ip link set TAP up && ip link set br0 up`, "TAP", s.Tap)
	out, err := exec.Command("nsenter", "--net="+s.Namespace, "sh", "-c", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
