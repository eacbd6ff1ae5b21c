package config

import (
	"fmt"
	"slices"
	"strings"
)

// check finds what contradicts itself, in a configuration whose single values
// are all right.
func check(d *document, c *Config) (faults []fault) {
	at := func(parts ...string) int { return d.place(parts) }
	if c.Firewall.BanMax < c.Firewall.BanTTL {
		faults = append(faults, fault{at: at("firewall", "ban_max"),
			what: fmt.Sprintf("firewall.ban_max (%s) is shorter than firewall.ban_ttl (%s)", show(c.Firewall.BanMax), show(c.Firewall.BanTTL)),
			hint: "no automatic ban is longer than ban_max: lower ban_ttl or raise ban_max"})
	}
	if c.Harvest.UnknownPerDay < c.Harvest.UnknownPerHour {
		faults = append(faults, fault{at: at("harvest", "unknown_per_day"), warning: true,
			what: "harvest.unknown_per_day is lower than harvest.unknown_per_hour", hint: "the rule of the hour can never decide then"})
	}
	faults = append(faults, checkComplaints(d, c)...)
	faults = append(faults, checkDomains(d, c)...)
	for _, l := range c.DNSBLs {
		if len(l.Scores) == 0 {
			faults = append(faults, fault{at: at("dnsbl", l.Name), warning: true, what: "dnsbl." + l.Name + " has no scores: its answers would count nothing",
				hint: `write what the list documents, such as scores = { "127.0.0.2" = 4 }`})
		}
	}
	if len(c.System.Routes) > 0 && !c.System.hasAddresses() {
		faults = append(faults, fault{at: at("system", "routes"), what: "no interface of [system] has an address, so no route can lead out of one",
			hint: "name the addresses in system.interfaces, or leave the routes to DHCP"})
	}
	if !c.Firewall.Enabled && !c.Observe {
		faults = append(faults, fault{at: at("firewall", "enabled"), warning: true,
			what: "the firewall is off: convicted sources are banned but not dropped", hint: "set firewall.enabled = true"})
	}
	return faults
}

// checkComplaints wants the mailbox in a domain of ours: mail for any other is
// relaying.
func checkComplaints(d *document, c *Config) []fault {
	_, domain, ok := strings.Cut(c.Harvest.ComplaintMailbox, "@")
	if !ok || slices.ContainsFunc(c.Domains, func(d Domain) bool { return d.Name == domain }) {
		return nil
	}
	return []fault{{at: d.place([]string{"harvest", "complaint_mailbox"}),
		what: "no mail is taken for " + domain + ", so none comes to harvest.complaint_mailbox",
		hint: `name an address in a domain that has a [domain."…"] table`}}
}

func checkDomains(d *document, c *Config) (faults []fault) {
	faults = d.sameDomains()
	used := map[string]bool{}
	for _, dom := range c.Domains {
		for _, name := range dom.Backends {
			used[name] = true
			if _, ok := c.Backend(name); !ok {
				faults = append(faults, fault{at: d.domainPlace(dom.Name, "backends"), what: fmt.Sprintf("there is no backend %q", name), hint: backendHint(c, name)})
			}
		}
	}
	for _, b := range c.Backends {
		if !used[b.Name] {
			faults = append(faults, fault{at: d.place([]string{"backend", b.Name}), warning: true,
				what: "no domain uses backend " + b.Name, hint: "name it in the backends of a [domain], or take it out"})
		}
	}
	if len(c.Domains) == 0 {
		// All mail would be refused as relaying, for good: that loses mail.
		faults = append(faults, fault{at: len(d.text), what: "there is no domain to take mail for",
			hint: `add [domain."example.com"] with backends = ["…"]`})
	}
	return faults
}

func backendHint(c *Config, name string) string {
	var names []string
	for _, b := range c.Backends {
		names = append(names, b.Name)
	}
	if near := nearest(name, names); near != "" {
		return "did you mean " + quote(near) + "?"
	}
	return "write [backend." + Path(name) + "] with its url"
}

// domainPlace is place for a domain whose canonical name may differ from the
// one that the file has.
func (d *document) domainPlace(domain, key string) int {
	for _, e := range d.entries {
		if len(e.path) == 3 && e.path[0] == "domain" && e.path[2] == key {
			if name, err := DomainName(e.path[1]); err == nil && name == domain {
				return e.value.at.from
			}
		}
	}
	return 0
}

// sameDomains finds domains that two tables stand for, such as [domain."a.org"]
// and [domain."A.org"]: their keys would mix.
func (d *document) sameDomains() (faults []fault) {
	written := map[string]string{}
	for _, e := range d.entries {
		if len(e.path) < 2 || e.path[0] != "domain" {
			continue
		}
		name, err := DomainName(e.path[1])
		if err != nil {
			continue
		}
		if first, ok := written[name]; ok && first != e.path[1] {
			faults = append(faults, fault{at: e.key.from, what: Path("domain", e.path[1]) + " and " + Path("domain", first) + " are one domain",
				hint: "write all its keys in one table"})
		}
		written[name] = e.path[1]
	}
	return faults
}
