// Package config is the configuration file: what may stand in it, what each key
// means, and what is wrong with a file that an operator wrote.
//
// The file is TOML. Parse reads it into a Config and tells every problem with
// its line and column: what is no TOML, what is no key of ours (with the one
// that was perhaps meant), what has the wrong type or is out of range, and what
// contradicts itself. What only this machine can tell (whether a certificate
// can be read, whether a user is there) the caller adds at the place of its key,
// see File.Problem.
//
// The schema (schema.go) is the one list of keys, with the text that the manual
// prints; docs/configuration.md is generated from it. Keys of the contract that
// this release does not act on are known too, and refused: a setting that does
// nothing is worse than none.
//
// A command changes the file by File.Set and File.Delete, which splice the text
// and leave comments and order alone, and writes it by File.Commit. The last
// file that was good is kept for a start with a bad one.
package config

import (
	"net/netip"
	"time"
)

// Config is the whole configuration, with defaults in place of what the file
// leaves out.
type Config struct {
	Hostname string
	Observe  bool
	StateDir string
	RunDir   string
	Users    Users

	SMTP     SMTP
	TLS      TLS
	DNS      DNS
	Firewall Firewall
	Geo      Geo
	Harvest  Harvest
	Checks   Checks
	DNSBLs   []DNSBL // in order of the file
	Feeds    []Feed
	Spare    []string // provider sets, see [providers]
	Greylist Greylist
	Backends []Backend // in order of the file
	Domains  []Domain
	Records  Records
	Metrics  Metrics
	Syslog   []Syslog
	System   System

	// Partial says that something was left out of the file, see Usable. A domain
	// that is not here may be ours all the same.
	Partial bool
}

// Users are the system users of the roles.
type Users struct{ Mail string }

// SMTP is how the edge talks to clients.
type SMTP struct {
	Listen         []netip.AddrPort
	MaxMessageSize Size
	MaxRecipients  int
	MaxConnections int
	PerSource      PerSource
	Timeouts       Timeouts
	GreetWait      time.Duration
	Forwarders     []netip.Prefix
}

// PerSource bounds what one address may do.
type PerSource struct {
	Open         int
	NewPerMinute int
}

// Timeouts bound how long a client may take.
type Timeouts struct {
	Command  time.Duration
	DataIdle time.Duration
	Session  time.Duration
}

// TLS is what STARTTLS offers.
type TLS struct {
	Certificates []Certificate // empty: a self-signed one
	MinVersion   string        // "1.2" or "1.3"
}

// Certificate names the two files of one certificate.
type Certificate struct{ Cert, Key string }

// DNS is who is asked.
type DNS struct {
	Servers []netip.AddrPort // empty: those of /etc/resolv.conf
	Timeout time.Duration
}

// Firewall is what the kernel does.
type Firewall struct {
	Enabled        bool
	Engine         string // "auto", "xdp" or "nft"
	XDPMode        string // "auto", "native" or "generic"
	Interfaces     []string
	Ports          []uint16
	BanTTL         time.Duration
	BanMax         time.Duration
	NeverBan       []netip.Prefix
	SYNLimit       bool
	FloodPerSecond int // 0: never
	ExplainPerHour int
	DetachOnStop   bool
}

// Geo names the databases of countries and networks ("" is none), and what
// becomes of who is where.
type Geo struct {
	Database string
	ASN      string
	Drop     []string // "NL" or "AS64500": new connections from there are dropped in the kernel
	Ban      []string // likewise: the first completed connection earns a ban
	Where
}

// Where is what is done about countries (ISO codes) and networks ("AS64500").
type Where struct {
	Reject []string
	Score  map[string]float64
}

// Checks is what is done when a check fails.
type Checks struct {
	Profile      string            // "balanced" or "strict"; of a domain "": as everywhere
	RejectScore  float64           // of a domain 0: as everywhere
	RDNSKeywords []string          // for all domains
	Set          map[string]string // by check: "off", "log", "defer", "reject", or a number
}

// DNSBL is a DNS list that is asked.
type DNSBL struct {
	Name   string
	Zone   string             // may hold a key
	Kind   string             // "address", "domain" or "allow"
	Scores map[string]float64 // by answer, see ParseAnswers
	Lookup string
	Reply  string
}

// Feed is a list of prefixes that others publish.
type Feed struct {
	Name       string
	Source     string // a path or a URL
	Action     string // "reject" or "ban"
	Refresh    time.Duration
	MaxEntries int
}

// Greylist is who has to come back. Of a domain, what is zero is as everywhere.
type Greylist struct {
	Mode   string // "off", "suspicious" or "all"
	Delay  time.Duration
	Window time.Duration
	Pass   time.Duration
}

// Harvest is the detection of who guesses addresses.
type Harvest struct {
	Enabled        bool
	UnknownPerHour int
	SharePerHour   float64
	UnknownPerDay  int
	SharePerDay    float64
	AbsolutePerDay int
	Traps          []string // addresses, patterns and domains, see harvest.ParseTraps
	TrapHits       int
	Complaints     int
	// ComplaintMailbox is where feedback reports come in, canonical; "": nowhere.
	ComplaintMailbox string
}

// Backend is a mail server that is protected.
type Backend struct {
	Name string
	URL  string
	TLS  string // "off", "opportunistic" or "required"
}

// Domain is a domain that mail is taken for.
type Domain struct {
	Name           string   // lower case, A-labels
	Backends       []string // names, in order
	Recipients     Recipients
	MaxMessageSize Size // 0: that of [smtp]
	Observe        bool
	Checks         Checks
	Geo            Where
	Greylist       Greylist
}

// Recipients says how it is known which recipients of a domain exist.
type Recipients struct {
	From RecipientSource
	Path string // of the file, for FromFile
}

// RecipientSource is where recipients are looked up.
type RecipientSource string

// The sources of recipients.
const (
	FromBackend RecipientSource = "backend" // asked live
	FromFile    RecipientSource = "file"
	FromAny     RecipientSource = "any" // every recipient is taken for good
)

// Records is how long records are kept.
type Records struct {
	Keep    Retention
	MaxSize Size
}

// Metrics is where figures can be read.
type Metrics struct{ Listen string } // address and port; "": nowhere

// Syslog is one collector of events.
type Syslog struct {
	Name     string
	Target   string // URL: udp://host:port, tcp://host:port, tls://host:port, unix:///path
	CA       string // file of CA certificates; "": those of the system
	Facility string
	Buffer   Size // of what waits on disk
}

// Default is the configuration of an empty file. Hostname, backends and domains
// have no default.
func Default() Config {
	return Config{
		StateDir: "/var/lib/mailweir",
		RunDir:   "/run/mailweir",
		Users:    Users{Mail: "weir-mail"},
		SMTP: SMTP{
			Listen: []netip.AddrPort{
				netip.AddrPortFrom(netip.IPv4Unspecified(), 25), netip.AddrPortFrom(netip.IPv6Unspecified(), 25),
			},
			MaxMessageSize: 50 * MiB,
			MaxRecipients:  100,
			MaxConnections: 10000,
			PerSource:      PerSource{Open: 10, NewPerMinute: 30},
			Timeouts:       Timeouts{Command: 5 * time.Minute, DataIdle: 3 * time.Minute, Session: 30 * time.Minute},
			GreetWait:      4 * time.Second,
		},
		TLS:      TLS{MinVersion: "1.2"},
		DNS:      DNS{Timeout: 5 * time.Second},
		Firewall: Firewall{Enabled: true, Engine: "auto", XDPMode: "auto", BanTTL: 48 * time.Hour, BanMax: 14 * day, SYNLimit: true, FloodPerSecond: 2000},
		Harvest: Harvest{
			Enabled: true, UnknownPerHour: 25, SharePerHour: 0.8, UnknownPerDay: 50, SharePerDay: 0.9, AbsolutePerDay: 300,
			TrapHits: 1, Complaints: 3,
		},
		Checks:   Checks{Profile: "balanced", RejectScore: 8, RDNSKeywords: []string{"dynamic", "pool", "dialup"}},
		Spare:    []string{"google", "microsoft", "yahoo", "apple"},
		Greylist: Greylist{Mode: "suspicious", Delay: 10 * time.Minute, Window: 48 * time.Hour, Pass: 36 * day},
		Records:  Records{Keep: Retention(30 * day), MaxSize: 4 * GiB},
		Metrics:  Metrics{Listen: "127.0.0.1:9125"},
	}
}

// What a new entry of a named table starts with.
var (
	defaultBackend = Backend{TLS: "opportunistic"}
	defaultDomain  = Domain{Recipients: Recipients{From: FromBackend}}
	defaultDNSBL   = DNSBL{Kind: "address"}
	defaultFeed    = Feed{Action: "reject", Refresh: 12 * time.Hour, MaxEntries: 100_000}
	defaultSyslog  = Syslog{Facility: "mail", Buffer: 4 * GiB}
)

// Backend returns the backend of that name.
func (c *Config) Backend(name string) (Backend, bool) {
	for _, b := range c.Backends {
		if b.Name == name {
			return b, true
		}
	}
	return Backend{}, false
}
