// Package guard is the role that holds the kernel's side: the ledger of bans,
// the engines that enforce them, and the list of addresses that are always
// let in.
//
// Guard listens on two unix sockets in run_dir/guard. On offence.sock (packets,
// for the user of the mail role) an offence is a message of 16 bytes with the
// offender's connected socket attached; guard asks the kernel who is at the
// other end, so that a mail process that was taken over can get nobody banned
// who did not connect. On operator.sock (package control, root only) the
// operator's verbs come in.
//
// Client speaks the first, Operator the second, Server answers both. Server.Run
// restores the ledger into the engines before it reports readiness, and then
// holds the kernel against what it wants: an engine that lost its table is
// mended within a second. Nothing on the way from an offence to the kernel
// waits for a disk.
package guard

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"

	"mailweir/firewall"
	"mailweir/geo"
)

// folder is guard's own folder in run_dir and in state_dir.
const folder = "guard"

// OffencePath is where guard takes offences, below run_dir.
func OffencePath(runDir string) string { return filepath.Join(runDir, folder, "offence.sock") }

// OperatorPath is where guard takes the operator's verbs, below run_dir.
func OperatorPath(runDir string) string { return filepath.Join(runDir, folder, "operator.sock") }

// Policy is what the configuration file says to guard. A reload replaces it.
type Policy struct {
	Enabled        bool             // false: ledger and lists are kept, the kernel is left alone
	Observe        bool             // count what would be dropped, drop nothing
	Interfaces     []string         // to stand on; empty: those that carry an address of Listen
	Listen         []netip.AddrPort // where the mail role listens
	Ports          []uint16         // protected ports; empty: those of Listen
	BanTTL         time.Duration    // of a first ban; 0: 48 h
	BanMax         time.Duration    // of any automatic ban; 0, and at most: 14 d
	Protect        []Protection     // whom no ban may hit
	DetachOnStop   bool             // stopping takes the firewall out of the kernel
	World          *geo.Tables      // where addresses are; nil: not known
	Deny           []geo.Rule       // new connections from there are dropped
	SYNPerMinute   int              // connections that one source may open in a minute; 0: no limit
	FloodPerSecond int              // connections a second, of all, that start the flood guard; 0: never
	ExplainPerHour int              // connections an hour that a banned source may open to hear why; 0: none
	Banish         []geo.Rule       // a connection from there earns a ban, without a byte sent
}

// Protection is a group of addresses that no ban may hit. Own addresses,
// default gateways, loopback and link-local are protected without being named.
type Protection struct {
	Name     string // one of the Guard names of package firewall, such as firewall.GuardBackend
	Prefixes []netip.Prefix
	Hosts    []string // host names, looked up by guard now and then
}

// Resolver looks up the hosts of a Protection; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Engine is one engine that guard shall use. Where making it went wrong, Err
// says so in place of Enforcer: status shows it, and guard goes on with the
// others. Server.Run closes the Enforcer at its end.
type Engine struct {
	Name     string // "xdp", "nft"
	Enforcer firewall.Enforcer
	Err      error
}

func (p Policy) ports() []uint16 {
	if len(p.Ports) > 0 {
		return p.Ports
	}
	var ports []uint16
	for _, l := range p.Listen {
		ports = appendNew(ports, l.Port())
	}
	return ports
}

// banishes says whether connections of an address earn a ban for where they
// come from. Guard looks for itself: the mail role's word is not enough.
func (p Policy) banishes(a netip.Addr) bool {
	return p.World != nil && a.IsValid() && p.World.Wanted(p.Banish)(p.World.Lookup(a))
}

func appendNew[T comparable](list []T, v T) []T {
	for _, have := range list {
		if have == v {
			return list
		}
	}
	return append(list, v)
}
