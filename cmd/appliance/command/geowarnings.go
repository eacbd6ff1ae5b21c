package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/config"
	"mailweir/firewall/guard"
)

// hitText tells what a rule does to senders.
func hitText(h mailapi.GeoHit) string {
	var some []string
	for _, a := range h.Some {
		some = append(some, a.String())
	}
	if h.Senders > len(some) {
		some = append(some, "…")
	}
	return fmt.Sprintf("%s %s hits %s whose mail was taken before (%s)", h.Key, h.Rule, plural(h.Senders, "sender"), strings.Join(some, ", "))
}

// insteadOf is what to do for the senders that are hit.
func insteadOf(h mailapi.GeoHit) string {
	if h.Key == "geo.reject" {
		return "weir allow ADDR spares one; a domain may have its own geo.reject"
	}
	return "weir allow ADDR spares one; the kernel knows no names, so to spare senders by name use geo.reject"
}

// hitsWithin bounds the question: a file can be checked where nothing answers.
const hitsWithin = 3 * time.Second

// geoHits asks what rules do to senders that are known; nil: those in force.
// Where no mail role runs nobody is known.
func (c *cli) geoHits(ctx context.Context, rules *config.Geo) []mailapi.GeoHit {
	ctx, cancel := context.WithTimeout(ctx, hitsWithin)
	defer cancel()
	q := mailapi.GeoHitsRequest{Geo: rules}
	if list, err := guard.NewOperator(c.runDir).AllowList(ctx); err == nil {
		for _, e := range list {
			q.Allow = append(q.Allow, e.Prefix)
		}
	}
	hits, err := mailapi.NewClient(c.runDir).GeoHits(ctx, q)
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
		list = append(list, f.Warning(h.Key, hitText(h), insteadOf(h)))
	}
	return list
}
