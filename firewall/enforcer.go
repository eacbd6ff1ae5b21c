package firewall

import (
	"context"
	"net/netip"
	"time"

	"mailweir/geo"
)

// Rules is what an engine holds besides bans.
type Rules struct {
	Interfaces []string       // names of the interfaces to stand on; nft ignores them
	Ports      []uint16       // protected TCP destination ports; nothing else is ever dropped
	Allow      []netip.Prefix // wins over every ban, in the kernel too; guard's own protected addresses are among them
	World      *geo.Tables    // where addresses are; nil: not known, and Deny means nothing
	Deny       []geo.Rule     // new connections from there are dropped; Allow wins
	Observe    bool           // count what would be dropped, drop nothing

	// SYNPerMinute is how many connections an IPv4 address or IPv6 /64 may open
	// in a minute, all at once or one by one; what is more is dropped, and is no
	// offence. 0: no limit.
	SYNPerMinute int
	// FloodPerSecond is how many connections a second, opened by anybody, start
	// the flood guard: a /24 or /48 may then open four times what one source may.
	// nftables does not know it. 0: never.
	FloodPerSecond int
	// ExplainPerHour is how many connections an hour a banned source may open, to
	// hear why. 0: none; at most 255.
	ExplainPerHour int
}

// Enforcer is an Engine with what guard needs around it. Its methods are safe
// for concurrent use; guard calls Replace, Apply and Configure one at a time.
// Until Configure was called nothing is dropped, and after Remove it may be
// called again. firewall/xdp and
// firewall/nft each have one, and one test suite holds both to the same
// meaning.
type Enforcer interface {
	Engine
	// Configure makes rules the whole truth, in one step as seen by packets.
	Configure(ctx context.Context, rules Rules) error
	// Hits says what was dropped by each ban that stands among prefixes.
	Hits(ctx context.Context, prefixes []netip.Prefix) (map[netip.Prefix]Hits, error)
	// Status asks the kernel, not our memory.
	Status(ctx context.Context) (Status, error)
	// Counters is what Status says of packets, without a look at bans: cheap at
	// ten million of them.
	Counters(ctx context.Context) (Counters, error)
	// Intact asks the kernel, in well under a millisecond, whether what this
	// engine put there still stands (the table, the links). Its error says what
	// is gone. Guard asks twice a second and mends by Configure and Replace.
	Intact(ctx context.Context) error
	// Remove takes everything of ours out of the kernel, whoever put it there.
	Remove(ctx context.Context) error
	// Close releases what the process holds; bans stay in force.
	Close() error
}

// Preparer is an Enforcer that is slow to take in a world, and can do most of it
// ahead: a Configure with a world that was prepared is quick, so that bans, which
// wait for it, do not wait long. Prepare may be called beside any other method.
type Preparer interface {
	Prepare(world *geo.Tables) error
}

// Hits counts the packets that one ban dropped (or would have, in observe).
type Hits struct {
	Packets uint64
	First   time.Time // of the first one; zero when the engine cannot say
}

// Status is what an engine reports of itself.
type Status struct {
	Engine     string            // "xdp", "nft"
	Interfaces []InterfaceStatus // xdp only
	Bans       int
	Counters   map[string]uint64 // packets by reason: "banned", "allowed", "geo", "syn_limit", "explained", …
	Places     map[string]Place  // by "NL" or "AS64500", "" for nowhere; xdp only
	Flood      bool              // the flood guard is active; xdp only
	Problems   []string          // each ends with what the operator should do
}

// Counters are packets by reason and new connections by place, as in Status.
type Counters struct {
	Reasons map[string]uint64 `json:"reasons"`
	Places  map[string]Place  `json:"places,omitempty"`
}

// Place counts new connections to protected ports from a country, or from a
// network that a rule names. Who is banned is not among them.
type Place struct {
	Seen   uint64 `json:"seen"`
	Denied uint64 `json:"denied"` // of these; they were dropped, unless allowed or in observe
}

// Sample is one packet that was dropped, or would have been in observe.
type Sample struct {
	Source netip.Addr
	Port   uint16 // 0: it could not be read
	Reason string // one of Status.Counters
}

// InterfaceStatus is how an engine stands on one interface.
type InterfaceStatus struct {
	Name string
	Mode string // "native", "generic"; "" when it does not stand there
	Note string // why not native, or what is in the way
}
