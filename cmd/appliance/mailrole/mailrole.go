// Package mailrole is weir mail: the process that talks to strangers, made of the
// parts that smtp, record and the others have, and the answers to its operator.
package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/process"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/harvest"
	"mailweir/smtp/relay"
)

// Run is the life of the mail role.
func Run(ctx context.Context, s settings.Start) error {
	process.SetName("weir-mail")
	given, err := process.PassedSockets()
	if err != nil {
		return err
	}
	ls := given.Listeners
	cfg, alarms, err := s.Load("mail")
	if err != nil {
		return err
	}
	if ls == nil {
		if ls, err = process.Listen(ctx, cfg.SMTP.Listen); err != nil {
			return err
		}
	}
	defer process.CloseAll(ls)
	if err := becomeMailUser(cfg, s.RunDir); err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	m, err := newMail(s, cfg, alarms, ls)
	if err != nil {
		return err
	}
	defer process.Serviced{Log: m.log, Alive: m.alive, Reload: func(ctx context.Context) error {
		_, err := mailapi.NewClient(s.RunDir).Reload(ctx)
		return err
	}}.Begin(ctx)()
	m.journal = given.Journal
	return m.run(ctx, ls)
}

// alive returns when the locks that every session needs could be had.
func (m *mail) alive() {
	m.server.Stats()
	m.watch.Sources()
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.router
}

// mail is the running mail role.
type mail struct {
	file    string // the configuration
	runDir  string
	now     func() time.Time
	log     *slog.Logger
	started time.Time
	dir     string // its own folder of state_dir

	store    *record.Store
	events   *events
	journal  *net.UnixConn // what the machine's other programs say; nil: nobody passes it
	metrics  *measures
	figures  *metricsServer
	memory   *relay.Memory
	watch    *harvest.Watch
	canaries *canaries
	reports  *reports
	attacks  sync.Mutex
	spared   time.Time // when a source was last spared a ban that would have been collateral
	guard    *guard.Client
	offender *offender
	places   *places
	names    *settings.Resolver
	lookups  *lookups
	server   *smtp.Server
	begin    func(smtp.Scout) error // puts the first policy in force, once somebody looks names up
	socket   *net.UnixListener

	tls        *certificates
	tiers      *settings.Tiers
	grey       *greylisting
	lists      *access.List
	feeds      *feeds
	providers  *providers
	closed     *maintenance
	listeners  []string
	stopRouter func()
	reloading  sync.Mutex // one at a time

	mu     sync.Mutex // of what a reload changes
	cfg    config.Config
	router *relay.Router
	damage damage
	aside  string // where a damaged state of watch lies, until somebody has looked
}

// newMail makes everything that the role needs; run starts and ends it.
func newMail(s settings.Start, cfg config.Config, alarms []string, ls []*net.TCPListener) (*mail, error) {
	m := &mail{file: s.File, runDir: s.RunDir, now: s.Now, started: s.Now(), dir: filepath.Join(cfg.StateDir, "mail"), cfg: cfg}
	m.log = slog.New(slog.NewTextHandler(s.Log, nil)).With("role", "mail")
	m.events = newEvents(cfg.Hostname, filepath.Join(m.dir, "syslog"), m.now, m.log)
	for _, a := range alarms {
		m.log.Error(a)
		m.events.Alarm(alarmConfig, a)
	}
	for _, l := range ls {
		m.listeners = append(m.listeners, l.Addr().String())
	}
	for _, d := range []string{m.dir, filepath.Join(m.dir, "tmp")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the mail role's folder: %w (does %s belong to users.mail?)", err, m.dir)
		}
	}
	var err error
	if m.memory, err = relay.OpenMemory(m.dir, m.log); err != nil {
		return nil, err
	}
	key, err := harvestKey(m.dir)
	if err != nil {
		return nil, err
	}
	records := settings.Records(cfg)
	records.Alarms, records.Clock = m.events, m.now
	m.store = record.Open(records)
	m.makeWatch(cfg, key)
	m.guard = guard.NewClient(m.runDir)
	m.offender = newOffender(m.guard, func(a netip.Addr) int { return m.watch.Widest(m.now(), a) }, m.now, m.events)
	m.offender.lane.Store(cfg.Firewall.ExplainPerHour > 0)
	if m.closed, err = openMaintenance(filepath.Join(m.dir, "maintenance.json"), m.now); err != nil {
		m.log.Error("maintenance", "error", err)
	}
	var alarm error
	if m.lists, alarm = access.Open(filepath.Join(m.dir, "lists.json"), m.now); alarm != nil {
		m.events.Alarm("lists_lost", fmt.Sprintf("the lists cannot be read, nobody is on them: %v", alarm))
	}
	m.tiers = settings.NewTiers(cfg, m.lists)
	m.reports = &reports{store: m.store, watch: m.watch, tier: m.tiers.Tier, now: m.now, log: m.log}
	if m.reports.key, err = sealKey(m.dir); err != nil {
		return nil, err
	}
	if m.grey, err = newGreylisting(cfg, m.dir, m.now, m.events); err != nil {
		return nil, err
	}
	m.places = openPlaces(cfg.Geo, m.log)
	m.metrics = newMeasures(m.status, m.events.Alarms, func(ctx context.Context) *guard.Figures {
		f, err := m.guard.Figures(ctx)
		if err != nil {
			return nil
		}
		return &f
	})
	m.offender.took = m.metrics.drop.Observe
	m.figures = &metricsServer{from: m.metrics.registry, alarms: m.events, log: m.log}
	m.names = settings.NewResolver(cfg.DNS)
	m.lookups = newLookups(cfg, m.events, m.knownGood)
	m.feeds = newFeeds(m.dir, m.lists, m.names, m.events, m.now, m.log)
	m.providers = newProviders(cfg, m.dir, m.lookups.dns, m.events, m.now)
	m.tiers.Providers, m.lookups.well = m.providers, m.providers.nudge
	if err := m.makeServer(cfg); err != nil {
		return nil, err
	}
	m.damage = damage{m.dir, m.events}
	m.damage.look()
	return m, nil
}

// makeWatch makes the engine, with what it knew before the restart.
func (m *mail) makeWatch(cfg config.Config, key [2]uint64) {
	m.canaries = newCanaries(m.now, m.log)
	m.watch = harvest.New(settings.Harvest(cfg.Harvest), harvest.Options{Key: key, Doubt: m.canaries.doubt, Alarm: m.attackAlarm})
	m.canaries.watch = m.watch
	m.canaries.probe = func(ctx context.Context, domain string) (relay.Canary, bool) {
		m.mu.Lock()
		router := m.router
		m.mu.Unlock()
		return router.Probe(ctx, domain)
	}
	if err := m.watch.Restore(m.watchFile()); err != nil {
		m.log.Error("harvest", "error", err)
		m.events.Alarm(alarmHarvestLost, err.Error())
		if _, there := os.Lstat(m.watchFile() + harvest.Aside); there == nil {
			m.aside = m.watchFile() + harvest.Aside
		}
	}
}

// knownGood says whether a source is known to be good by its history.
func (m *mail) knownGood(a netip.Addr) bool {
	t := m.watch.Tier(m.now(), a, smtp.New)
	return t == smtp.Known || t == smtp.Trusted
}

// watchFile is where the engine's state outlives a restart.
func (m *mail) watchFile() string { return filepath.Join(m.dir, "harvest.state") }

func (m *mail) makeServer(cfg config.Config) error {
	router, err := settings.NewRouter(cfg, m.memory, m.names)
	if err != nil {
		return err
	}
	front, err := m.reports.before(router, cfg.Harvest)
	if err != nil {
		return err
	}
	if cfg.Partial {
		front = settings.Unsure{Router: front}
	}
	m.tls = &certificates{dir: m.dir, now: m.now}
	certs, err := m.tls.load(cfg)
	if err != nil {
		return err
	}
	m.tls.use(certs)
	m.router = router
	m.server, err = smtp.NewServer(smtp.Options{
		Hostname: cfg.Hostname, TempDir: filepath.Join(m.dir, "tmp"),
		Policy: settings.SMTP(cfg, front, m.tls.config(cfg.TLS.MinVersion), nil), Recorder: m.metrics.before(m.events.Before(m.store)), Seal: m.reports.key.Seal,
		Watcher: m.watch, Canary: m.canaries, Offender: m.offender, Gate: m.offender, Origins: m.places, Tiers: m.tiers, Provider: m.tiers.Provider,
		Maintenance: m.closed.text, Greylist: m.grey, Access: m.lists,
		Log: m.log, Clock: m.now,
	})
	if err != nil {
		return err
	}
	m.begin = func(sc smtp.Scout) error {
		return m.server.SetPolicy(settings.SMTP(cfg, front, m.tls.config(cfg.TLS.MinVersion), sc))
	}
	m.socket, err = control.Socket{Path: mailapi.Socket(m.runDir), Mode: 0o600, UID: -1, GID: -1}.Listen()
	return err
}

// run serves until ctx ends and all sessions have drained. What the sessions
// need ends after them, in the reverse order of its start.
func (m *mail) run(ctx context.Context, ls []*net.TCPListener) error {
	var background sync.WaitGroup
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer background.Wait()
	defer end()
	collectors, err := m.events.collectors(m.cfg.Syslog)
	if err != nil {
		return err
	}
	m.events.use(life, &background, m.cfg.Syslog, collectors)
	if m.journal != nil {
		background.Go(func() { machineLog{m.journal, m.events.pass, m.now, m.log}.run(life) })
	}
	background.Go(func() {
		if err := m.store.Run(life); err != nil {
			m.log.Error("record store", "error", err)
		}
	})
	background.Go(func() { m.memory.Run(life) })
	m.runWatch(life, &background)
	m.grey.run(life, &background)
	background.Go(func() { m.places.run(life) })
	background.Go(func() { m.tls.run(life, m.events, time.NewTicker(time.Minute).C) })
	m.startRouter(life, &background)
	background.Go(func() { m.watchAlarms(life, time.NewTicker(watchGuardEvery).C) })
	background.Go(func() { newListener(m.guard, m.events.Log, m.dir).run(life, time.NewTicker(fetchEvents).C) })
	background.Go(func() { m.lookups.dns.Run(life) })
	background.Go(func() { m.providers.run(life) })
	m.feeds.use(life, &background, m.cfg)
	m.figures.use(life, &background, m.cfg.Metrics.Listen)
	if err := m.begin(m.lookups.use(life, &background, m.cfg)); err != nil {
		return err
	}
	background.Go(func() {
		allow := []uint32{0, uint32(os.Getuid())}
		if err := control.Serve(life, m.socket, allow, m.control(life, &background)); err != nil {
			m.log.Error("control socket", "error", err)
		}
	})
	defer m.guard.Close()
	process.NotifyReady(m.log)
	var listeners []net.Listener
	for _, l := range ls {
		listeners = append(listeners, l)
	}
	return m.server.Serve(ctx, listeners...)
}

// startRouter runs m.router until stopRouter, which returns when it tells of no
// alarm any more.
func (m *mail) startRouter(life context.Context, background *sync.WaitGroup) {
	ctx, cancel := context.WithCancel(life)
	router, silent := m.router, make(chan struct{})
	m.stopRouter = func() { cancel(); <-silent }
	background.Go(func() { router.Run(ctx) })
	background.Go(func() {
		defer close(silent)
		router.Report(ctx, m.memory, m.events)
	})
}

func (m *mail) control(life context.Context, background *sync.WaitGroup) http.Handler {
	mc := &mailControl{
		store: m.store, server: m.server, watch: m.watch, now: m.now, status: m.status, origin: m.places.origin, hits: m.geoHits, returns: m.grey.report, lists: m.lists, feeds: m.feeds, providers: m.providers, closed: m.closed,
		check:  func() error { _, err := m.prepare(); return m.refused(err) },
		reload: func() (mailapi.Reloaded, error) { return m.reload(life, background) },
	}
	return mc.handler()
}

// change is a changed file, made ready to be put in force.
type change struct {
	cfg        config.Config
	router     *relay.Router
	front      smtp.Router // router, with what stands before it
	certs      *certificateSet
	collectors []collector
	mailapi.Reloaded
}

// prepare reads the file again and makes what it asks for. Everything that can
// go wrong goes wrong here, where nothing has changed yet.
func (m *mail) prepare() (change, error) {
	file, err := settings.Checked(m.file)
	if err != nil {
		return change{}, err
	}
	m.mu.Lock()
	cfg := m.cfg
	m.mu.Unlock()
	c := change{cfg: config.InForce(cfg, file)}
	c.Changed, c.Later = config.Diff(cfg, file)
	c.Switched, c.Unset = config.Switched(cfg, c.cfg), config.Unset(cfg, c.cfg)
	if c.router, err = settings.NewRouter(c.cfg, m.memory, m.names); err != nil {
		return c, err
	}
	if c.front, err = m.reports.before(c.router, c.cfg.Harvest); err != nil {
		return c, err
	}
	if c.certs, err = m.tls.load(c.cfg); err != nil {
		return c, err
	}
	c.collectors, err = m.events.collectors(c.cfg.Syslog)
	return c, err
}

// refused raises the alarm of a reload that came to nothing, and returns why:
// whoever asked for it may be gone when somebody wonders why nothing changed.
func (m *mail) refused(err error) error {
	if err != nil {
		m.events.Alarm(settings.AlarmRefused, settings.Refused(err))
	}
	return err
}

// reload puts a changed file in force. Live sessions go on under the policy that
// they began with.
func (m *mail) reload(life context.Context, background *sync.WaitGroup) (mailapi.Reloaded, error) {
	m.reloading.Lock()
	defer m.reloading.Unlock()
	c, err := m.prepare()
	if err == nil {
		err = m.server.SetPolicy(settings.SMTP(c.cfg, c.front, m.tls.config(c.cfg.TLS.MinVersion), m.lookups.use(life, background, c.cfg)))
	}
	if err != nil {
		return mailapi.Reloaded{}, m.refused(err)
	}
	m.tls.use(c.certs)
	m.events.use(life, background, c.cfg.Syslog, c.collectors)
	m.figures.use(life, background, c.cfg.Metrics.Listen)
	m.watch.SetRules(settings.Harvest(c.cfg.Harvest))
	records := settings.Records(c.cfg)
	m.store.SetLimits(records.Keep, records.BanMax, records.MaxSize)
	m.offender.lane.Store(c.cfg.Firewall.ExplainPerHour > 0)
	m.tiers.Set(c.cfg)
	m.grey.use(c.cfg)
	m.places.open(c.cfg.Geo)
	m.names.Use(c.cfg.DNS)
	m.providers.use(c.cfg)
	m.feeds.use(life, background, c.cfg)
	m.stopRouter()
	m.mu.Lock()
	before := m.cfg
	m.router, m.cfg, m.aside = c.router, c.cfg, ""
	m.mu.Unlock()
	c.Warnings = enforcedNow(m.watch.Alarms(m.now()), before, c.cfg)
	m.events.Clear(alarmConfig, "the file is good")
	m.events.Clear(settings.AlarmRefused, "the file is good, and in force")
	m.events.Clear("lists_lost", "the configuration was put in force anew")
	m.events.Clear(alarmGreylistLost, "the configuration was put in force anew")
	if len(c.Changed)+len(c.Later) > 0 {
		m.events.Change("operator", "configuration", strings.Join(slices.Concat(c.Changed, c.Later), " "))
	}
	m.events.Clear(alarmHarvestLost, "the configuration was put in force anew")
	m.startRouter(life, background)
	settings.Keep(m.file, filepath.Join(m.dir, settings.Kept))
	return c.Reloaded, nil
}

// status is what weir status shows of this role.
func (m *mail) status(ctx context.Context) mailapi.Status {
	m.mu.Lock()
	router, cfg := m.router, m.cfg
	m.mu.Unlock()
	st, rs := m.server.Stats(), router.Status(m.memory)
	s := mailapi.Status{
		Started: m.started, Hostname: cfg.Hostname, Observe: cfg.Observe, Listeners: m.listeners,
		Open: st.Open, Load: st.Load, Connections: st.Connections, Outcomes: named(st.Outcomes), Reasons: named(st.Reasons), Spared: named(st.Spared),
		Sources: m.watch.Sources(), Backends: rs.Backends, Domains: rs.Domains, Records: m.store.Stats(ctx),
		Geo: m.places.sources(), TLS: m.tls.describe(), Syslog: m.events.stats(), Memory: memoryNow(), Greylist: m.grey.status(), Alarms: m.events.alarms(),
	}
	for i, d := range s.Domains {
		s.Domains[i].Observe = slices.ContainsFunc(cfg.Domains, func(c config.Domain) bool { return c.Name == d.Name && c.Observe })
	}
	s.DNS, s.Lists = m.lookups.status()
	s.Feeds, s.Providers = m.feeds.status(), m.providers.status()
	if a := m.closed.alarm(); a != "" {
		s.Closed = true
		s.Alarms = append(s.Alarms, a)
	}
	if s.Alarms == nil {
		s.Alarms = []string{}
	}
	return s
}

func named[K ~string](m map[K]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for k, v := range m {
		out[string(k)] = v
	}
	return out
}

func memoryNow() mailapi.Memory {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return mailapi.Memory{Heap: s[0].Value.Uint64(), Stacks: s[1].Value.Uint64()}
}
