package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailweir/config"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/geo"
	"mailweir/smtp"
)

// geoHit is what a rule about places does to senders whose mail was taken
// before, and who would not be let in any more.
type geoHit struct {
	Key     string       `json:"key"`     // geo.drop, geo.ban, geo.reject
	Rule    string       `json:"rule"`    // NL, AS64500
	Senders int          `json:"senders"` // addresses
	Some    []netip.Addr `json:"some"`    // the first few of them
}

// someHits is how many senders are named.
const someHits = 5

func (h geoHit) String() string {
	var some []string
	for _, a := range h.Some {
		some = append(some, a.String())
	}
	if h.Senders > len(some) {
		some = append(some, "…")
	}
	return fmt.Sprintf("%s %s hits %s whose mail was taken before (%s)", h.Key, h.Rule, plural(h.Senders, "sender"), strings.Join(some, ", "))
}

// instead is what to do for the senders that are hit.
func (h geoHit) instead() string {
	if h.Key == "geo.reject" {
		return "weir allow ADDR spares one; a domain may have its own geo.reject"
	}
	return "weir allow ADDR spares one; the kernel knows no names, so to spare senders by name use geo.reject"
}

// geoHitsRequest asks what rules do; Geo nil: those in force. Whom Allow has is
// spared.
type geoHitsRequest struct {
	Geo   *config.Geo    `json:"geo,omitempty"`
	Allow []netip.Prefix `json:"allow,omitempty"`
}

// geoHits is the answer of the mail role, which knows the senders.
func (m *mail) geoHits(q geoHitsRequest) []geoHit {
	m.mu.Lock()
	rules := m.cfg.Geo
	m.mu.Unlock()
	if q.Geo != nil {
		rules = *q.Geo
	}
	if len(rules.Drop)+len(rules.Ban)+len(rules.Reject) == 0 {
		return nil
	}
	known := slices.DeleteFunc(m.watch.WellKnown(m.c.now()), func(a netip.Addr) bool {
		return m.tiers.Tier(a) == smtp.Protected || slices.ContainsFunc(q.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
	})
	return hitsOf(rules, known, m.places.db.Load().Lookup)
}

// hitsOf counts the senders that rules name, a rule each; rules that hit nobody
// are left out.
func hitsOf(rules config.Geo, senders []netip.Addr, lookup func(netip.Addr) geo.Origin) (hits []geoHit) {
	for _, k := range []struct {
		key   string
		rules []string
	}{{"geo.drop", rules.Drop}, {"geo.ban", rules.Ban}, {"geo.reject", rules.Reject}} {
		for _, r := range rulesOf(k.rules) {
			h := geoHit{Key: k.key, Rule: r.String()}
			for _, a := range senders {
				if !r.Matches(lookup(a)) {
					continue
				}
				if h.Senders++; len(h.Some) < someHits {
					h.Some = append(h.Some, a)
				}
			}
			if h.Senders > 0 {
				hits = append(hits, h)
			}
		}
	}
	return hits
}

func (m mailClient) geoHits(ctx context.Context, q geoHitsRequest) (hits []geoHit, err error) {
	return hits, m.c.Do(ctx, http.MethodPost, "/geo-hits", q, &hits)
}

// hitsWithin bounds the question: a file can be checked where nothing answers.
const hitsWithin = 3 * time.Second

// geoHits asks what rules do to senders that are known; nil: those in force.
// Where no mail role runs nobody is known.
func (c *cli) geoHits(ctx context.Context, rules *config.Geo) []geoHit {
	ctx, cancel := context.WithTimeout(ctx, hitsWithin)
	defer cancel()
	q := geoHitsRequest{Geo: rules}
	if list, err := guard.NewOperator(c.runDir).AllowList(ctx); err == nil {
		for _, e := range list {
			q.Allow = append(q.Allow, e.Prefix)
		}
	}
	hits, err := newMailClient(c.runDir).geoHits(ctx, q)
	if err != nil {
		return nil
	}
	return hits
}

// geoWarnings are the hits of a file's rules, at their places in it.
func (c *cli) geoWarnings(ctx context.Context, path string) (list config.Problems) {
	f, cfg, problems, err := config.Read(path)
	if err != nil || problems.Bad() {
		return nil
	}
	for _, h := range c.geoHits(ctx, &cfg.Geo) {
		list = append(list, f.Warning(h.Key, h.String(), h.instead()))
	}
	return list
}

// handleGeoHits serves geoHits.
func handleGeoHits(hits func(geoHitsRequest) []geoHit) http.Handler {
	return control.Handle(func(_ *http.Request, q geoHitsRequest) ([]geoHit, error) {
		return append([]geoHit{}, hits(q)...), nil
	})
}
