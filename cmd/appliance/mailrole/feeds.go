package mailrole

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/feed"
	"mailweir/prefix"
	"mailweir/record"
	"mailweir/smtp/access"
)

// feeds are those of the file, each with what keeps it fresh.
type feeds struct {
	dir    string
	lists  *access.List
	alarms record.Alarms
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex // of what a reload changes
	running []*runningFeed

	setMu   sync.Mutex // of what feeds change by themselves, never held for long
	inForce []*runningFeed
	file    map[netip.Prefix]string // whom the file spares
}

type runningFeed struct {
	of   config.Feed
	feed *feed.Feed
	stop func()
	set  *prefix.Set // of setMu
}

// alarmFeed begins the names of alarms of feeds.
const alarmFeed = "feed."

func newFeeds(dir string, lists *access.List, names *settings.Resolver, alarms record.Alarms, now func() time.Time, log *slog.Logger) *feeds {
	dial := (&net.Dialer{Timeout: 20 * time.Second, Resolver: names.Resolver}).DialContext
	return &feeds{
		dir: dir, lists: lists, alarms: alarms, client: feed.NewClient(dial), now: now, log: log,
	}
}

// use puts the feeds of a file in force. One that is as before goes on.
func (f *feeds) use(life context.Context, background *sync.WaitGroup, cfg config.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setMu.Lock()
	f.file = sparedByFile(cfg)
	f.setMu.Unlock()
	var next []*runningFeed
	for _, c := range cfg.Feeds {
		i := slices.IndexFunc(f.running, func(r *runningFeed) bool { return r.of == c })
		if i >= 0 {
			next = append(next, f.running[i])
			f.running[i].feed.Again()
			f.running = slices.Delete(f.running, i, i+1)
		}
	}
	for _, gone := range f.running {
		gone.stop()
	}
	f.running = next
	for _, c := range cfg.Feeds {
		if !slices.ContainsFunc(next, func(r *runningFeed) bool { return r.of == c }) {
			f.running = append(f.running, f.start(life, background, c))
		}
	}
	f.setMu.Lock()
	defer f.setMu.Unlock()
	f.inForce = slices.Clone(f.running)
	f.publish()
}

// start opens a feed, and keeps it fresh until stop.
func (f *feeds) start(life context.Context, background *sync.WaitGroup, c config.Feed) *runningFeed {
	r := &runningFeed{of: c}
	r.feed = feed.Open(feed.Options{
		Name: c.Name, Source: c.Source, Refresh: c.Refresh, MaxEntries: c.MaxEntries,
		File: filepath.Join(f.dir, "feed-"+url.PathEscape(c.Name)+".json"), Client: f.client, Spared: f.spared,
		Changed: func(s *prefix.Set) { f.hold(r, s) },
		Alarm:   func(what string) { f.tell(c.Name, what) },
		Clock:   f.now, Log: f.log,
	})
	ctx, cancel := context.WithCancel(life)
	ended := make(chan struct{})
	r.stop = func() { cancel(); <-ended }
	background.Go(func() { defer close(ended); r.feed.Run(ctx) })
	return r
}

func (f *feeds) tell(name, what string) {
	if what == "" {
		f.alarms.Clear(alarmFeed+name, "it is in force")
		return
	}
	f.alarms.Alarm(alarmFeed+name, what)
}

// hold keeps a new set of a feed, and puts it in force.
func (f *feeds) hold(r *runningFeed, s *prefix.Set) {
	f.setMu.Lock()
	defer f.setMu.Unlock()
	r.set = s
	f.publish()
}

// publish puts the sets of the feeds that are in force there. Called with setMu
// held.
func (f *feeds) publish() {
	var all []access.Feed
	for _, r := range f.inForce {
		all = append(all, access.Feed{Name: r.of.Name, Source: r.of.Source, Bans: r.of.Action == "ban", Set: r.set})
	}
	f.lists.SetFeeds(all)
}

// spared are those whom no feed may hit: the file's, this machine, and whom the
// lists let in by address.
func (f *feeds) spared() map[netip.Prefix]string {
	f.setMu.Lock()
	all := maps.Clone(f.file)
	f.setMu.Unlock()
	addrs, _ := net.InterfaceAddrs() // those that are not told are not reached by their own address either
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				all[netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())] = "an address of this machine"
			}
		}
	}
	for _, e := range f.lists.Entries() {
		if e.Action == access.Allow && e.Subject.Kind == access.Address && e.To == "" {
			all[e.Subject.Prefix] = "weir allow"
		}
	}
	return all
}

// sparedByFile are those whom the file names.
func sparedByFile(cfg config.Config) map[netip.Prefix]string {
	all := map[netip.Prefix]string{}
	for _, p := range settings.Protections(cfg) {
		for _, prefix := range p.Prefixes {
			all[prefix] = p.Name
		}
	}
	return all
}

// find is the feed of that name.
func (f *feeds) find(name string) (*feed.Feed, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.running {
		if r.of.Name == name {
			return r.feed, true
		}
	}
	return nil, false
}

// status is how the feeds are.
func (f *feeds) status() []feed.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []feed.Status{}
	for _, r := range f.running {
		all = append(all, r.feed.Status())
	}
	return all
}
