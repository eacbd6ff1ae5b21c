package main

import (
	"net/http"
	"net/netip"
	"slices"

	"mailweir/config"
	"mailweir/control"
	"mailweir/geo"
	"mailweir/smtp"
)

// someHits is how many senders are named.
const someHits = 5

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
	known := slices.DeleteFunc(m.watch.WellKnown(m.now()), func(a netip.Addr) bool {
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

// handleGeoHits serves geoHits.
func handleGeoHits(hits func(geoHitsRequest) []geoHit) http.Handler {
	return control.Handle(func(_ *http.Request, q geoHitsRequest) ([]geoHit, error) {
		return append([]geoHit{}, hits(q)...), nil
	})
}
