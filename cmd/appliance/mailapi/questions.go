package mailapi

import (
	"fmt"
	"net/netip"
	"time"

	"mailweir/config"
	"mailweir/firewall"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/harvest"
)

// RecordsRequest is record.Query as it goes over the socket.
type RecordsRequest struct {
	Since  time.Time    `json:"since,omitzero"`
	Reason string       `json:"reason,omitempty"`
	Sender string       `json:"sender,omitempty"`
	Rcpt   string       `json:"rcpt,omitempty"`
	Addr   netip.Prefix `json:"addr,omitzero"`
	Limit  int          `json:"limit,omitempty"`
}

// Query is the request as the store takes it.
func (q RecordsRequest) Query() record.Query {
	return record.Query{Since: q.Since, Reason: q.Reason, Sender: q.Sender, Rcpt: q.Rcpt, Addr: q.Addr, Limit: q.Limit}
}

// WhyRequest asks for the story of a ref, an address or a mailbox.
type WhyRequest struct {
	Subject string `json:"subject"`
	Limit   int    `json:"limit,omitempty"`
}

// EvidenceRequest asks for the evidence that is kept under refs of bans.
type EvidenceRequest struct {
	Refs []ref.Ref `json:"refs"`
}

// TestRequest is smtp.Probe as it goes over the socket.
type TestRequest struct {
	From netip.Addr `json:"from"`
	HELO string     `json:"helo,omitempty"`
	Mail *string    `json:"mail,omitempty"`
	Rcpt string     `json:"rcpt,omitempty"`
}

// Decision is the answer: the record that such a connection would leave.
type Decision struct {
	record.Line
}

// Origin is what is known of where an address is.
type Origin struct {
	Address netip.Addr `json:"address"`
	Country string     `json:"country,omitempty"`
	ASN     uint32     `json:"asn,omitempty"`
	Network string     `json:"network,omitempty"`
	Sources []string   `json:"sources"`         // the databases that were asked, with their dates
	Rules   []string   `json:"rules,omitempty"` // that name it
}

// Reloaded is what a role says of a reload that went well.
type Reloaded struct {
	Changed []string `json:"changed,omitempty"`
	// Switched are those of them that are on or off, with what they are now.
	Switched map[string]bool `json:"switched,omitempty"`
	// Unset are those of them that were taken out, with their default; "": none.
	Unset map[string]string `json:"unset,omitempty"`
	Later []string          `json:"later,omitempty"` // keys that take effect at the next start
	// Warnings are what the change does at once that nobody may have thought of.
	Warnings []string `json:"warnings,omitempty"`
}

// FetchRequest asks for a feed to be looked at now.
type FetchRequest struct {
	Name   string `json:"name"`
	Accept bool   `json:"accept,omitempty"` // though it is not what it was
}

// Imported is what came of a change of the lists.
type Imported struct {
	Added int `json:"added"`
}

// Shut is how the door is closed; the zero shut is open.
type Shut struct {
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Text   string    `json:"text,omitempty"`
	Author string    `json:"author,omitempty"`
}

// Complaint is a complaint that the operator passes on, with the ref
// that our Received gave to the message. The ref says which message is meant,
// and cannot be made up; that its recipient complains, the operator vouches
// for, since the sender knows the ref too. By mail it takes a seal (reports).
type Complaint struct {
	Addr     netip.Addr `json:"addr"`
	Refs     []ref.Ref  `json:"refs"`
	Reporter string     `json:"reporter,omitempty"` // a recipient of the message; "" where it had but one
	Retract  bool       `json:"retract,omitempty"`
}

// Complained is what became of a complaint.
type Complained struct {
	Addr     netip.Addr `json:"addr"`
	Ref      ref.Ref    `json:"ref"` // of the message
	Reporter string     `json:"reporter"`
	Count    int        `json:"complaints"` // of different reporters within a week
	Need     int        `json:"need"`
	Marked   bool       `json:"marked"` // banned when it comes again
}

func (d Complained) String() string {
	line := fmt.Sprintf("%v: %d of %d complaints within a week", d.Addr, d.Count, d.Need)
	if d.Marked {
		line += ", banned when it comes again"
	}
	return line
}

// WouldRequest asks who would have been banned since a moment.
type WouldRequest struct {
	Since time.Time `json:"since"`
}

// TopRequest asks for so many lines of each kind.
type TopRequest struct {
	Most int `json:"most"`
}

// Top is what weir top shows: who is connected, who attacks, what is
// dropped.
type Top struct {
	Time      time.Time          `json:"time"`
	Open      int                `json:"open"` // connections
	Reasons   map[string]uint64  `json:"reasons"`
	Attackers []harvest.Attacker `json:"attackers"`
	Sources   []smtp.Connected   `json:"sources"` // with the most open connections
	Alarms    []string           `json:"alarms"`

	Bans    int               `json:"bans"`
	Dropped map[string]uint64 `json:"dropped,omitempty"` // packets, by engine
	// New connections by country and by the networks that rules name; "" is nowhere.
	Places map[string]firewall.Place `json:"places,omitempty"`
}

// GeoHit is what a rule about places does to senders whose mail was taken
// before, and who would not be let in any more.
type GeoHit struct {
	Key     string       `json:"key"`     // geo.drop, geo.ban, geo.reject
	Rule    string       `json:"rule"`    // NL, AS64500
	Senders int          `json:"senders"` // addresses
	Some    []netip.Addr `json:"some"`    // the first few of them
}

// GeoHitsRequest asks what rules do; Geo nil: those in force. Whom Allow has is
// spared.
type GeoHitsRequest struct {
	Geo   *config.Geo    `json:"geo,omitempty"`
	Allow []netip.Prefix `json:"allow,omitempty"`
}
