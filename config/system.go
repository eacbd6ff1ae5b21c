package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// System is the machine itself, on the appliance image: elsewhere the operating
// system's own files say all this, and [system] is left out.
type System struct {
	// Interfaces has the addresses of an interface with the length of their
	// networks; an empty list, or no entry, is DHCP and router advertisements.
	Interfaces map[string][]string
	// Routes has gateways by destination: "default" or a prefix.
	Routes map[string][]string
	// DNS are servers that our resolver forwards to; empty: it asks the
	// authoritative servers itself.
	DNS []netip.AddrPort
	NTP []string // names or addresses; empty: Debian's pool
	// Operators has who may log in, with SSH public keys and the hash of a
	// password.
	Operators map[string][]string
}

func (s System) hasAddresses() bool {
	for _, addresses := range s.Interfaces {
		if len(addresses) > 0 {
			return true
		}
	}
	return false
}

// Each of the rules below looks at one line of a table of lists.

func interfaceAddresses(name string, addresses []string) (what, hint string) {
	if what, hint := interfaceNames(&[]string{name}); what != "" {
		return what, hint
	}
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil || p.Addr().Is4In6() {
			return quote(a) + " is no address with the length of its network", `write one such as "192.0.2.25/24"`
		}
		if p == p.Masked() && p.Addr().BitLen()-p.Bits() > 1 {
			return quote(a) + " is a network, not an address in it", `write the machine's own address, such as "192.0.2.25/24"`
		}
	}
	return "", ""
}

func routeGateways(to string, gateways []string) (what, hint string) {
	network, err := netip.ParsePrefix(to)
	if to != "default" && (err != nil || network != network.Masked()) {
		return quote(to) + " is no destination", `write default, or a prefix such as "10.0.0.0/8"`
	}
	if len(gateways) == 0 {
		return "the route to " + to + " has no gateway", "name one, or take the line out"
	}
	for _, g := range gateways {
		a, err := netip.ParseAddr(g)
		if err != nil || a.Zone() != "" || to != "default" && a.Is4() != network.Addr().Is4() {
			return quote(g) + " is no gateway to " + to, `write its address, such as "192.0.2.1"`
		}
	}
	return "", ""
}

var (
	operatorName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,30}$`)
	sshKey       = regexp.MustCompile(`^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{40,}={0,2}( [ -~]*)?$`)
	passwordHash = regexp.MustCompile(`^\$(y|6|gy)\$[./A-Za-z0-9$=,]{20,}$`)
)

// taken are names that the image has users of.
var taken = []string{"root", "setup", "daemon", "bin", "sys", "sync", "nobody", "unbound", "sshd", "messagebus", "weir-mail", "weir-web", "weir-operator"}

func operatorLogins(name string, logins []string) (what, hint string) {
	switch {
	case !operatorName.MatchString(name):
		return quote(name) + " is no name to log in by", "use small letters, digits, - and _, and begin with a letter"
	case slices.Contains(taken, name) || strings.HasPrefix(name, "systemd-"):
		return quote(name) + " is a user of the system", "choose another name"
	case len(logins) == 0:
		return name + " has neither key nor password", "give an SSH public key, or the hash of a password"
	}
	for _, l := range logins {
		if !sshKey.MatchString(l) && !IsPasswordHash(l) {
			return "neither an SSH public key nor the hash of a password", // not shown: it may be a password
				`paste the line of id_ed25519.pub, or what "openssl passwd -6" prints; never a password itself`
		}
	}
	return "", ""
}

// IsPasswordHash tells the hash of a password (crypt(5): $y$, $gy$ or $6$) from
// an SSH key.
func IsPasswordHash(login string) bool { return passwordHash.MatchString(login) }

// timeServers wants names or addresses.
func timeServers(v any) (what, hint string) {
	for _, s := range *v.(*[]string) {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			continue // a zone may be any text, line ends too
		}
		if _, err := DomainName(s); err != nil || s == "" {
			return quote(s) + " is no server", `write a name such as "ntp.example.net", or an address`
		}
	}
	return "", ""
}
