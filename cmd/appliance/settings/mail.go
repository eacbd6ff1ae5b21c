package settings

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"mailweir/config"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/harvest"
	"mailweir/smtp/relay"
	"mailweir/smtp/reply"
)

// NewRouter makes the routes of a configuration.
func NewRouter(cfg config.Config, memory *relay.Memory, names *Resolver) (*relay.Router, error) {
	dial := (&net.Dialer{Resolver: names.Resolver}).DialContext
	backends := map[string]*relay.Backend{}
	for _, b := range cfg.Backends {
		u, err := relay.ParseURL(b.URL)
		if err != nil {
			return nil, err
		}
		backends[b.Name], err = relay.NewBackend(relay.BackendOptions{
			Name: b.Name, URL: u, TLS: relay.TLSMode(b.TLS), Hostname: cfg.Hostname, Dial: dial,
		})
		if err != nil {
			return nil, err
		}
	}
	var domains []relay.Domain
	for _, d := range cfg.Domains {
		rd := relay.Domain{Name: d.Name, Recipients: string(d.Recipients.From), MaxMessageSize: int64(d.MaxMessageSize)}
		if d.Recipients.From == config.FromFile {
			rd.Recipients = "file:" + d.Recipients.Path
		}
		for _, name := range d.Backends {
			rd.Backends = append(rd.Backends, backends[name])
		}
		domains = append(domains, rd)
	}
	return relay.NewRouter(domains, memory)
}

// SMTP takes what the SMTP side uses out of the file.
func SMTP(cfg config.Config, router smtp.Router, front *tls.Config, sc smtp.Scout) smtp.Policy {
	judges := Checks(cfg)
	return smtp.Policy{
		ID: policyID(cfg), Observe: cfg.Observe,
		MaxMessageSize: int64(cfg.SMTP.MaxMessageSize),
		MaxConnections: cfg.SMTP.MaxConnections,
		PerSource:      smtp.PerSource{Open: cfg.SMTP.PerSource.Open, NewPerMinute: cfg.SMTP.PerSource.NewPerMinute},
		Timeouts: smtp.Timeouts{
			Command: cfg.SMTP.Timeouts.Command, DataIdle: cfg.SMTP.Timeouts.DataIdle, Session: cfg.SMTP.Timeouts.Session,
		},
		GreetWait: cfg.SMTP.GreetWait, TLS: front, Router: router,
		Traps: harvest.NewTraps(cfg.Harvest.Traps), SMTPUTF8: true, Postmaster: postmaster(cfg),
		Chain: judges.Chain(), Domains: DomainChains(cfg), Scout: sc,
		Teaser:         judges.Setting(reply.EarlyTalk) != reply.Off,
		RefuseBareEnds: judges.Setting(reply.BareLineEnds).Do == reply.Reject,
	}
}

// postmaster is whom RCPT TO:<Postmaster> means (RFC 5321 section 4.5.1): that
// of the first domain, since this machine has no mailboxes of its own.
func postmaster(cfg config.Config) address.Mailbox {
	return address.Mailbox{Local: "postmaster", Domain: cfg.Domains[0].Name}
}

// policyID is the same for the same settings, whatever the file looks like.
func policyID(cfg config.Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", cfg))
	return hex.EncodeToString(sum[:6])
}

// Harvest are the zero Rules, which convict nobody, when it is off.
func Harvest(h config.Harvest) harvest.Rules {
	if !h.Enabled {
		return harvest.Rules{}
	}
	r := harvest.Default
	r.UnknownPerHour, r.SharePerHour = h.UnknownPerHour, h.SharePerHour
	r.UnknownPerDay, r.SharePerDay = h.UnknownPerDay, h.SharePerDay
	r.AbsolutePerDay = h.AbsolutePerDay
	r.TrapHits, r.Complaints = h.TrapHits, h.Complaints
	return r
}

// Records is what the file says of the record store.
func Records(cfg config.Config) record.Options {
	keep := time.Duration(cfg.Records.Keep)
	if cfg.Records.Keep == config.Forever {
		keep = 0
	}
	return record.Options{
		Dir: filepath.Join(cfg.StateDir, "mail", "records"), Node: cfg.Hostname,
		Keep: keep, MaxSize: int64(cfg.Records.MaxSize), BanMax: cfg.Firewall.BanMax,
	}
}
