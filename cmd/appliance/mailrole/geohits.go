package mailrole

import (
	"net/http"
	"net/netip"
	"slices"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/control"
	"mailweir/geo"
	"mailweir/smtp"
)

// someHits is how many senders are named.
const someHits = 5

// geoHits is the answer of the mail role, which knows the senders.
func (m *mail) geoHits(q mailapi.GeoHitsRequest) []mailapi.GeoHit {
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
func hitsOf(rules config.Geo, senders []netip.Addr, lookup func(netip.Addr) geo.Origin) (hits []mailapi.GeoHit) {
	for _, k := range []struct {
		key   string
		rules []string
	}{{"geo.drop", rules.Drop}, {"geo.ban", rules.Ban}, {"geo.reject", rules.Reject}} {
		for _, r := range settings.GeoRules(k.rules) {
			h := mailapi.GeoHit{Key: k.key, Rule: r.String()}
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
func handleGeoHits(hits func(mailapi.GeoHitsRequest) []mailapi.GeoHit) http.Handler {
	return control.Handle(func(_ *http.Request, q mailapi.GeoHitsRequest) ([]mailapi.GeoHit, error) {
		return append([]mailapi.GeoHit{}, hits(q)...), nil
	})
}
