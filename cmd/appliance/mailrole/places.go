package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/geo"
)

// places is where addresses are, as far as the databases know. A reload can put
// other databases in the place of these.
type places struct {
	log *slog.Logger
	db  atomic.Pointer[geo.DB]

	mu   sync.Mutex
	from config.Geo
	next chan struct{} // closed when db was replaced
}

func openPlaces(from config.Geo, log *slog.Logger) *places {
	p := &places{log: log, next: make(chan struct{})}
	p.load(from)
	return p
}

// load opens the databases. A damaged one is an alarm and no more: mail goes on
// without knowing countries.
func (p *places) load(from config.Geo) {
	db, err := geo.Open(from.Database, from.ASN)
	if err != nil {
		p.log.Error("country or network data", "error", err)
	}
	p.from = from
	p.db.Store(db)
}

// open takes other databases, where the file names others.
func (p *places) open(from config.Geo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from.Database == p.from.Database && from.ASN == p.from.ASN {
		p.from = from
		return
	}
	p.load(from)
	close(p.next)
	p.next = make(chan struct{})
}

// run loads changed files until ctx ends.
func (p *places) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		db, next := p.db.Load(), p.next
		p.mu.Unlock()
		watch, stop := context.WithCancel(ctx)
		go func() {
			select {
			case <-next:
			case <-watch.Done():
			}
			stop()
		}()
		db.Watch(watch, settings.GeoInterval, func(err error) {
			if err != nil {
				p.log.Error("country or network data", "error", err)
			}
		})
		stop()
	}
}

// Lookup implements smtp.Origins.
func (p *places) Lookup(a netip.Addr) (country string, asn uint32) {
	o := p.db.Load().Lookup(a)
	return o.Country, o.ASN
}

// origin is what weir geo lookup tells.
func (p *places) origin(a netip.Addr) mailapi.Origin {
	o := p.db.Load().Lookup(a)
	return mailapi.Origin{Address: a, Country: o.Country, ASN: o.ASN, Network: o.ASName, Sources: p.sources(), Rules: p.rules(o)}
}

// rules are those that name where an address is.
func (p *places) rules(o geo.Origin) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []struct {
		rules []string
		says  string
	}{
		{p.from.Drop, "geo.drop %v: the kernel drops its new connections, unless weir allow lets it in"},
		{p.from.Ban, "geo.ban %v: its first completed connection earns a ban, unless weir allow lets it in"},
		{p.from.Reject, "geo.reject %v: its mail is refused, with a reason"},
	} {
		for _, r := range settings.GeoRules(key.rules) {
			if r.Matches(o) {
				list = append(list, fmt.Sprintf(key.says, r))
			}
		}
	}
	return list
}

// sources describes the databases, a line each.
func (p *places) sources() []string {
	var lines []string
	for _, i := range p.db.Load().Info() {
		line := fmt.Sprintf("%s (%s)", i.Path, i.Source)
		if !i.Built.IsZero() {
			line += ", of " + i.Built.Format(time.DateOnly)
		}
		if i.Problem != "" {
			line += ": " + i.Problem
		}
		lines = append(lines, line)
	}
	return lines
}
