package settings

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"mailweir/config"
	"mailweir/geo"
	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/greylist"
	"mailweir/smtp/rdns"
	"mailweir/smtp/reply"
	"mailweir/smtp/scout"
)

// Checks is what the file says of the checks.
func Checks(cfg config.Config) check.Policy {
	served := map[string]bool{}
	for _, d := range cfg.Domains {
		served[d.Name] = true
	}
	p := check.Policy{
		MaxRecipients: cfg.SMTP.MaxRecipients, Hostname: cfg.Hostname, Served: func(d string) bool { return served[d] },
		Strict: cfg.Checks.Profile == "strict", RejectScore: cfg.Checks.RejectScore, Set: setOf(nil, cfg.Checks.Set),
		GeoReject: cfg.Geo.Reject, GeoScore: cfg.Geo.Score, Greylist: Greylist(cfg.Greylist),
	}
	for _, r := range GeoRules(cfg.Geo.Ban) {
		p.GeoBan = append(p.GeoBan, r.String())
	}
	for _, d := range cfg.DNSBLs {
		p.Lists = append(p.Lists, listOf(d))
	}
	return p
}

// DomainChecks is p for a domain that has something to say of its own; false:
// it has not.
func DomainChecks(p check.Policy, d config.Domain) (check.Policy, bool) {
	own := d.Checks.Profile != "" || d.Checks.RejectScore != 0 || d.Checks.Set != nil || d.Geo.Reject != nil || d.Geo.Score != nil ||
		d.Greylist != config.Greylist{} || d.Observe
	p.Observe = d.Observe
	if d.Checks.Profile != "" {
		p.Strict = d.Checks.Profile == "strict"
	}
	if d.Checks.RejectScore != 0 {
		p.RejectScore = d.Checks.RejectScore
	}
	p.Set = setOf(p.Set, d.Checks.Set)
	if d.Geo.Reject != nil {
		p.GeoReject = d.Geo.Reject
	}
	if d.Geo.Score != nil {
		p.GeoScore = d.Geo.Score
	}
	p.Greylist = p.Greylist.With(Greylist(d.Greylist))
	return p, own
}

// Greylist is the greylist as the judges see it.
func Greylist(g config.Greylist) check.Greylist {
	return check.Greylist{
		Mode: check.GreylistMode(g.Mode), Terms: greylist.Terms{Delay: g.Delay, Window: g.Window, Pass: g.Pass},
	}
}

// setOf are those of all with those of one over them.
func setOf(all map[string]reply.Setting, one map[string]string) map[string]reply.Setting {
	set := maps.Clone(all)
	if set == nil {
		set = map[string]reply.Setting{}
	}
	for name, text := range one {
		if s, ok := reply.ParseSetting(text); ok {
			set[name] = s
		}
	}
	return set
}

// DomainChains are the chains of the domains that have their own.
func DomainChains(cfg config.Config) map[string]smtp.Chain {
	chains := map[string]smtp.Chain{}
	for _, d := range cfg.Domains {
		if p, own := DomainChecks(Checks(cfg), d); own {
			chains[d.Name] = p.Chain()
		}
	}
	return chains
}

// listOf is a DNS list as the judges see it.
func listOf(d config.DNSBL) check.List {
	l := check.List{Name: d.Name, Domain: d.Kind == "domain", Lookup: d.Lookup, Reply: d.Reply}
	for _, text := range slices.Sorted(maps.Keys(d.Scores)) {
		a, err := config.ParseAnswers(text)
		if err != nil {
			continue // the file was checked
		}
		r := check.Range{Low: a.Low, High: a.High, Score: d.Scores[text]}
		if d.Kind == "allow" && r.Score > 0 {
			r.Score = -r.Score
		}
		l.Scores = append(l.Scores, r)
	}
	return l
}

// Classifier says what kind of name an address has; these words make it one of a
// dial-up line.
func Classifier(keywords []string) func(name string, addr netip.Addr) (class, pattern string) {
	return func(name string, addr netip.Addr) (class, pattern string) {
		v := rdns.Classify(name, addr, keywords)
		return string(v.Class), v.Pattern
	}
}

// ScoutLists are the lists with where they are asked.
func ScoutLists(cfg config.Config) (lists []scout.List) {
	for _, d := range cfg.DNSBLs {
		lists = append(lists, scout.List{List: listOf(d), Zone: d.Zone})
	}
	return lists
}

// GeoRules are the rules of a list that the configuration has checked.
func GeoRules(list []string) (rules []geo.Rule) {
	for _, s := range list {
		if r, err := geo.ParseRule(s); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}

// GeoInterval is how often the files are looked at: they change monthly.
const GeoInterval = time.Minute
