package mailrole

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/config"
	"mailweir/disk"
	"mailweir/dns"
	"mailweir/prefix"
	"mailweir/record"
	"mailweir/smtp/provider"
)

// providers are the networks of the providers that the file spares, with the last
// good ones on disk.
type providers struct {
	file   string
	dns    providerDNS
	alarms record.Alarms
	now    func() time.Time
	wake   chan struct{} // see nudge

	mu    sync.Mutex
	names []string
	kept  map[string]keptProvider
	why   map[string]error // the last look-up came to nothing
	sets  atomic.Pointer[[]providerSet]
}

type providerSet struct {
	name string
	set  *prefix.Set
}

// keptProvider is what is on disk of one.
type keptProvider struct {
	Looked   time.Time      `json:"looked"`
	Prefixes []netip.Prefix `json:"prefixes"`
}

const (
	alarmProvider   = "provider."
	providersEvery  = 12 * time.Hour
	providersAgain  = 10 * time.Minute // after a look-up that came to nothing
	providersStale  = 7 * 24 * time.Hour
	providerPatient = 2 * time.Minute
)

func newProviders(cfg config.Config, dir string, resolver *dns.Resolver, alarms record.Alarms, now func() time.Time) *providers {
	p := &providers{
		file: filepath.Join(dir, "providers.json"), dns: providerDNS{resolver}, alarms: alarms, now: now,
		wake: make(chan struct{}, 1), kept: map[string]keptProvider{}, why: map[string]error{},
	}
	if err := disk.Restore(p.file, func(r io.Reader) error { return json.NewDecoder(r).Decode(&p.kept) }); err != nil {
		alarms.Alarm(alarmProvider+"lost", fmt.Sprintf("the networks of providers are looked up anew: %v", err))
		p.kept = map[string]keptProvider{}
	}
	p.use(cfg)
	return p
}

// use takes the providers of a file.
func (p *providers) use(cfg config.Config) {
	p.mu.Lock()
	for _, gone := range p.names {
		if !slices.Contains(cfg.Spare, gone) {
			p.alarms.Clear(alarmProvider+gone, "it is not spared any more")
		}
	}
	p.names = cfg.Spare
	p.mu.Unlock()
	p.publish()
	p.nudge()
}

// nudge has what is due looked up now: the file names others, or DNS is well again.
func (p *providers) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *providers) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := []providerSet{}
	for _, n := range p.names {
		sets = append(sets, providerSet{n, prefix.New(p.kept[n].Prefixes)})
	}
	p.sets.Store(&sets)
}

// Find says whose network an address is in, and which.
func (p *providers) Find(a netip.Addr) (name string, in netip.Prefix, ok bool) {
	for _, s := range *p.sets.Load() {
		if in, ok = s.set.Find(a); ok {
			return s.name, in, true
		}
	}
	return "", netip.Prefix{}, false
}

// run looks the networks up until ctx ends.
func (p *providers) run(ctx context.Context) {
	for {
		again := p.refresh(ctx)
		next := time.NewTimer(again*9/10 + rand.N(again/5))
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-p.wake:
			next.Stop()
		case <-next.C:
		}
	}
}

// refresh looks up what is due, and says when to come again.
func (p *providers) refresh(ctx context.Context) time.Duration {
	p.mu.Lock()
	names := slices.Clone(p.names)
	p.mu.Unlock()
	again := providersEvery
	for _, n := range names {
		if !p.due(n) {
			continue
		}
		if err := p.look(ctx, n); err != nil && ctx.Err() == nil {
			again = providersAgain
		}
	}
	return again
}

func (p *providers) due(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.kept[name]
	since := p.now().Sub(k.Looked)
	ahead := since < -time.Hour // the clock was, once
	return !ok || p.why[name] != nil || since >= providersEvery*8/10 || ahead
}

// look looks one provider up.
func (p *providers) look(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, providerPatient)
	defer cancel()
	set, err := provider.Networks(ctx, p.dns, name)
	now := p.now()
	p.mu.Lock()
	p.why[name] = err
	before, had := p.kept[name]
	if err == nil {
		p.kept[name] = keptProvider{now, set.List()}
	}
	p.mu.Unlock()
	if err != nil {
		p.alarm(name, err, before, had)
		return err
	}
	p.publish()
	p.alarms.Clear(alarmProvider+name, "its networks are known")
	return p.save()
}

// alarm tells of a provider whose record is not what one can be, or that could not
// be looked up for long. Where there never was a record, as behind a resolver
// that knows no internet, nobody is spared, and nothing else is wrong.
func (p *providers) alarm(name string, err error, before keptProvider, had bool) {
	stands := "none of its networks is known"
	if had {
		stands = "those of " + before.Looked.UTC().Format(time.DateTime) + " stand"
	}
	missing := isDNS(err) || errors.Is(err, provider.ErrNoRecord)
	if missing && (!had || p.now().Sub(before.Looked) < providersStale) {
		return // weir status says so
	}
	p.alarms.Alarm(alarmProvider+name, fmt.Sprintf("the networks of %s cannot be looked up, %s: %v; see providers.spare", name, stands, err))
}

func (p *providers) save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return disk.Replace(p.file, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(p.kept) })
}

func (p *providers) status() []mailapi.ProviderStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []mailapi.ProviderStatus{}
	for _, n := range p.names {
		s := mailapi.ProviderStatus{Name: n, Networks: len(p.kept[n].Prefixes), Looked: p.kept[n].Looked}
		if err := p.why[n]; err != nil {
			s.Why = err.Error()
		}
		all = append(all, s)
	}
	return all
}

// networks are those of one provider.
func (p *providers) networks(name string) (list []netip.Prefix, ok bool) {
	for _, s := range *p.sets.Load() {
		if s.name == name {
			return s.set.List(), true
		}
	}
	return nil, false
}
