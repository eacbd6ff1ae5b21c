package firewall

import (
	"net/netip"
	"slices"
)

// The guards: who protects a source from being banned. The names are used in
// answers, logs, metrics and on the screen.
const (
	GuardAllow     = "allow"       // the operator's allow list
	GuardNeverBan  = "never_ban"   // firewall.never_ban of the configuration
	GuardOwn       = "own_address" // an address of this machine
	GuardGateway   = "gateway"     // a default gateway
	GuardResolver  = "resolver"    // a DNS server we ask
	GuardBackend   = "backend"     // a mail server behind us
	GuardForwarder = "forwarder"   // own backup MX, known forwarders
	GuardRelay     = "relay_network"
	GuardBalancer  = "balancer"    // speaks PROXY to us: all its clients would go
	GuardLoopback  = "loopback"    // this machine
	GuardLinkLocal = "link_local"  // neighbours on the wire: routers, neighbour discovery
	GuardMulticast = "multicast"   // no source at all
	GuardSession   = "ssh_session" // an operator works on this machine from there, now
)

// Guarded is a prefix that no ban may hit, and who says so.
type Guarded struct {
	Guard  string       `json:"guard"`
	Prefix netip.Prefix `json:"prefix"`
}

// always holds for every machine.
var always = []Guarded{
	{GuardLoopback, netip.MustParsePrefix("127.0.0.0/8")},
	{GuardLoopback, netip.MustParsePrefix("::1/128")},
	{GuardLinkLocal, netip.MustParsePrefix("169.254.0.0/16")},
	{GuardLinkLocal, netip.MustParsePrefix("fe80::/10")},
	{GuardMulticast, netip.MustParsePrefix("224.0.0.0/4")},
	{GuardMulticast, netip.MustParsePrefix("ff00::/8")},
	{GuardOwn, netip.MustParsePrefix("0.0.0.0/8")},
	{GuardOwn, netip.MustParsePrefix("::/128")},
}

// Guards is a fixed set of guarded prefixes, asked many times. The zero value
// guards nobody; NewGuards adds what holds for every machine.
type Guards struct {
	byPrefix map[netip.Prefix]string // the first guard named wins
	starts   []netip.Prefix          // the same prefixes in order of their first address
	lengths  [2][]int                // prefix lengths that occur, longest first: IPv4, IPv6
}

// NewGuards makes the set. Of several guards of one prefix the first is named,
// but one that protects more than an allow entry wins over it.
func NewGuards(list []Guarded) *Guards {
	return newGuards(append(slices.Clip(list), always...))
}

func newGuards(list []Guarded) *Guards {
	g := &Guards{byPrefix: make(map[netip.Prefix]string, len(list))}
	for _, e := range list {
		g.add(e)
	}
	for p := range g.byPrefix {
		g.starts = append(g.starts, p)
	}
	slices.SortFunc(g.starts, netip.Prefix.Compare)
	for i := range g.lengths {
		slices.Sort(g.lengths[i])
		g.lengths[i] = slices.Compact(g.lengths[i])
		slices.Reverse(g.lengths[i])
	}
	return g
}

// without is what g guards and other does not.
func (g *Guards) without(other *Guards) *Guards {
	var list []Guarded
	for p, name := range g.byPrefix {
		if other.byPrefix[p] != name {
			list = append(list, Guarded{name, p})
		}
	}
	return newGuards(list)
}

func (g *Guards) add(e Guarded) {
	p := Canonical(e.Prefix)
	if have := g.byPrefix[p]; !p.IsValid() || have != "" && (have != GuardAllow || e.Guard == GuardAllow) {
		return
	}
	g.byPrefix[p] = e.Guard
	f := family(p.Addr())
	g.lengths[f] = append(g.lengths[f], p.Bits())
}

// List is every guarded prefix, in order.
func (g *Guards) List() []Guarded {
	list := make([]Guarded, 0, len(g.starts))
	for _, p := range g.starts {
		list = append(list, Guarded{g.byPrefix[p], p})
	}
	return list
}

// Veto says who forbids a ban of p. An allow entry forbids bans inside it: a
// wider ban may stand around it, for allow wins in the kernel. Every other
// guard forbids whatever touches its prefix, wider bans too.
func (g *Guards) Veto(p netip.Prefix) (guard Guarded, vetoed bool) {
	if guard, vetoed = g.covering(p); vetoed {
		return guard, true
	}
	for _, e := range g.inside(p) {
		if name := g.byPrefix[e]; name != GuardAllow {
			return Guarded{name, e}, true
		}
	}
	return Guarded{}, false
}

// Touches says whether p has an address in common with any guarded prefix,
// allow entries among them.
func (g *Guards) Touches(p netip.Prefix) bool {
	_, covered := g.covering(p)
	return covered || len(g.inside(p)) > 0
}

// Covering lists the guards whose prefixes hold all of p, narrowest first.
func (g *Guards) Covering(p netip.Prefix) []Guarded {
	var list []Guarded
	for _, bits := range g.lengths[family(p.Addr())] {
		if bits > p.Bits() {
			continue
		}
		if wide, _ := p.Addr().Prefix(bits); g.byPrefix[wide] != "" {
			list = append(list, Guarded{g.byPrefix[wide], wide})
		}
	}
	return list
}

// covering is the narrowest of them.
func (g *Guards) covering(p netip.Prefix) (Guarded, bool) {
	for _, bits := range g.lengths[family(p.Addr())] {
		if bits > p.Bits() {
			continue
		}
		wide, _ := p.Addr().Prefix(bits)
		if name := g.byPrefix[wide]; name != "" {
			return Guarded{name, wide}, true
		}
	}
	return Guarded{}, false
}

// inside is what lies in p: the prefixes that start in it, since two prefixes
// never overlap by halves.
func (g *Guards) inside(p netip.Prefix) []netip.Prefix {
	if len(g.starts) == 0 || p.IsSingleIP() && g.byPrefix[p] == "" {
		return nil
	}
	from, _ := slices.BinarySearchFunc(g.starts, p, netip.Prefix.Compare)
	to := from
	for to < len(g.starts) && p.Contains(g.starts[to].Addr()) {
		to++
	}
	return g.starts[from:to]
}

// Canonical unmaps IPv4-mapped addresses, drops zones and masks the host bits:
// one form for each prefix, so that prefixes can be compared. What is no
// prefix of either family comes back invalid.
func Canonical(p netip.Prefix) netip.Prefix {
	if !p.IsValid() {
		return netip.Prefix{}
	}
	addr, bits := p.Addr().WithZone(""), p.Bits()
	if addr.Is4In6() {
		if bits < 96 {
			return netip.Prefix{}
		}
		addr, bits = addr.Unmap(), bits-96
	}
	p, _ = addr.Prefix(bits)
	return p
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
