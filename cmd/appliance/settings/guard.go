package settings

import (
	"net/netip"
	"net/url"

	"mailweir/config"
	"mailweir/dns"
	"mailweir/firewall"
	"mailweir/firewall/guard"
)

// Guard takes what guard uses out of the file.
func Guard(cfg config.Config) guard.Policy {
	return guard.Policy{
		Enabled: cfg.Firewall.Enabled, Observe: cfg.Observe,
		Interfaces: cfg.Firewall.Interfaces, Listen: cfg.SMTP.Listen, Ports: cfg.Firewall.Ports,
		BanTTL: cfg.Firewall.BanTTL, BanMax: cfg.Firewall.BanMax,
		Protect:      Protections(cfg),
		DetachOnStop: cfg.Firewall.DetachOnStop,
		SYNPerMinute: synLimit(cfg), FloodPerSecond: cfg.Firewall.FloodPerSecond, ExplainPerHour: cfg.Firewall.ExplainPerHour,
	}
}

// synFactor is how much more the kernel lets a source open than the gate takes
// of it: the gate says so, the kernel is silent.
const synFactor = 8

func synLimit(cfg config.Config) int {
	if !cfg.Firewall.SYNLimit {
		return 0
	}
	return synFactor * cfg.SMTP.PerSource.NewPerMinute
}

// Protections are those whom no ban may hit, besides what guard knows itself.
func Protections(cfg config.Config) []guard.Protection {
	backends := guard.Protection{Name: firewall.GuardBackend}
	for _, b := range cfg.Backends {
		u, err := url.Parse(b.URL)
		if err != nil || u.Hostname() == "" {
			continue // a folder or a local socket
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			backends.Prefixes = append(backends.Prefixes, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		} else {
			backends.Hosts = append(backends.Hosts, u.Hostname())
		}
	}
	resolvers := guard.Protection{Name: firewall.GuardResolver}
	for _, a := range dnsServers(cfg.DNS) {
		resolvers.Prefixes = append(resolvers.Prefixes, netip.PrefixFrom(a.Addr().Unmap(), a.Addr().Unmap().BitLen()))
	}
	return []guard.Protection{
		backends, resolvers,
		{Name: firewall.GuardNeverBan, Prefixes: cfg.Firewall.NeverBan},
		{Name: firewall.GuardForwarder, Prefixes: cfg.SMTP.Forwarders},
	}
}

// dnsServers are those of the file, else those of the machine.
func dnsServers(d config.DNS) []netip.AddrPort {
	if len(d.Servers) > 0 {
		return d.Servers
	}
	return dns.MachineServers("/etc/resolv.conf")
}
