package mailapi

import (
	"fmt"
	"time"

	"mailweir/dns"
	"mailweir/feed"
	"mailweir/record"
	"mailweir/record/syslog"
	"mailweir/smtp"
	"mailweir/smtp/relay"
	"mailweir/smtp/scout"
)

// Status is everything the mail role can say of itself.
type Status struct {
	Started     time.Time               `json:"started"`
	Hostname    string                  `json:"hostname"`
	Observe     bool                    `json:"observe"`
	Closed      bool                    `json:"closed"` // for maintenance
	Listeners   []string                `json:"listeners"`
	Open        int                     `json:"open"`           // connections
	Load        smtp.Load               `json:"load,omitempty"` // what is done because of how many are open
	Connections uint64                  `json:"connections"`
	Outcomes    map[string]uint64       `json:"outcomes"`
	Reasons     map[string]uint64       `json:"reasons"` // of refusals
	Spared      map[string]uint64       `json:"spared"`  // of what would be, but for observe or for who the source is
	Sources     int                     `json:"sources"` // that harvest remembers
	Backends    []relay.BackendStatus   `json:"backends"`
	Domains     []relay.DomainStatus    `json:"domains"`
	Records     record.Stats            `json:"records"`
	Geo         []string                `json:"geo"`
	DNS         dns.Status              `json:"dns"`
	Lists       []scout.ListStatus      `json:"lists"` // DNS lists
	Feeds       []feed.Status           `json:"feeds"`
	Providers   []ProviderStatus        `json:"providers"`
	TLS         string                  `json:"tls"`
	Syslog      map[string]syslog.Stats `json:"syslog"` // by collector
	Memory      Memory                  `json:"memory"`
	Greylist    GreylistStatus          `json:"greylist"`
	Alarms      []string                `json:"alarms"` // each ends with what to do
}

// Memory is what the mail role holds, in bytes. What the kernel shows as
// resident has also what is garbage and what was not given back yet.
type Memory struct {
	Heap   uint64 `json:"heap"`   // live when the collector last looked
	Stacks uint64 `json:"stacks"` // of sessions
}

// GreylistStatus is what weir status shows of the greylist.
type GreylistStatus struct {
	Mode    string  `json:"mode"`
	Waiting int     `json:"waiting"` // contacts, some under two keys
	Passed  int     `json:"passed"`
	Never   float64 `json:"never_per_10000"` // mail servers that never come back
	Pools   int     `json:"pools"`           // that this was seen of
}

func (s GreylistStatus) String() string {
	line := fmt.Sprintf("%s, %d waiting, %d passed", s.Mode, s.Waiting, s.Passed)
	if s.Pools > 0 {
		line += fmt.Sprintf("; of 10,000 mail servers %.0f never come back (weir lists returns)", s.Never)
	}
	return line
}

// ProviderStatus is what weir status shows of one.
type ProviderStatus struct {
	Name     string    `json:"name"`
	Networks int       `json:"networks"`
	Looked   time.Time `json:"looked,omitzero"`
	Why      string    `json:"why,omitempty"`
}
