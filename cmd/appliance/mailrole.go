package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mailweir/config"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/harvest"
	"mailweir/smtp/relay"
)

func (c *cli) mailCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "mail",
		Short: "the role that talks to strangers, for service managers",
		Long: `Run the role that talks SMTP. It takes its listening sockets by LISTEN_FDS, else binds
smtp.listen itself. Started as root it becomes users.mail at once: it needs no
capability. weir run starts it by itself.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runMail(cmd.Context(), file) },
	}
	configVar(cmd, &file)
	return cmd
}

// runMail is the life of the mail role.
func (c *cli) runMail(ctx context.Context, file string) error {
	nameProcess("weir-mail")
	ls, err := passedListeners()
	if err != nil {
		return err
	}
	cfg, alarms, err := startConfig(file, "mail")
	if err != nil {
		return err
	}
	c.useRunDir(cfg)
	if ls == nil {
		if ls, err = listen(ctx, cfg.SMTP.Listen); err != nil {
			return err
		}
	}
	defer closeAll(ls)
	if err := becomeMailUser(cfg, c.runDir); err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	m, err := newMail(c, cfg, file, alarms, ls)
	if err != nil {
		return err
	}
	return m.run(ctx, ls)
}

// mail is the running mail role.
type mail struct {
	c       *cli
	file    string
	log     *slog.Logger
	started time.Time
	dir     string // its own folder of state_dir

	store    *record.Store
	events   *events
	memory   *relay.Memory
	watch    *harvest.Watch
	guard    *guard.Client
	offender *offender
	places   *places
	names    *resolver
	server   *smtp.Server
	socket   *net.UnixListener

	mu         sync.Mutex
	cfg        config.Config
	router     *relay.Router
	stopRouter context.CancelFunc
	tls        *certificates
	tiers      *tiers
	alarms     []string // of the start
	listeners  []string
}

// newMail makes everything that the role needs; run starts and ends it.
func newMail(c *cli, cfg config.Config, file string, alarms []string, ls []*net.TCPListener) (*mail, error) {
	m := &mail{c: c, file: file, alarms: alarms, started: c.now(), dir: filepath.Join(cfg.StateDir, "mail"), cfg: cfg}
	m.log = slog.New(slog.NewTextHandler(c.err, nil)).With("role", "mail")
	for _, a := range alarms {
		m.log.Error(a)
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
	m.events = newEvents(cfg.Hostname, c.now, m.log)
	records := recordOptions(cfg)
	records.Alarms, records.Clock = m.events, c.now
	m.store = record.Open(records)
	m.watch = harvest.New(harvestRules(cfg.Harvest), harvest.Options{Key: key})
	m.guard = guard.NewClient(c.runDir)
	m.offender = newOffender(m.guard, c.now)
	m.tiers = newTiers(cfg)
	m.places = openPlaces(cfg.Geo, m.log)
	m.names = newResolver(cfg.DNS)
	return m, m.makeServer(cfg)
}

func (m *mail) makeServer(cfg config.Config) error {
	router, err := newRouter(cfg, m.memory, m.names)
	if err != nil {
		return err
	}
	m.tls = &certificates{dir: m.dir, now: m.c.now}
	certs, err := m.tls.load(cfg)
	if err != nil {
		return err
	}
	m.tls.use(certs)
	m.router = router
	m.server, err = smtp.NewServer(smtp.Options{
		Hostname: cfg.Hostname, TempDir: filepath.Join(m.dir, "tmp"),
		Policy: smtpPolicy(cfg, router, m.tls), Recorder: m.events.Before(m.store),
		Watcher: m.watch, Offender: m.offender, Gate: m.offender, Origins: m.places, Tiers: m.tiers,
		Log: m.log, Clock: m.c.now,
	})
	if err != nil {
		return err
	}
	m.socket, err = control.Socket{Path: mailSocket(m.c.runDir), Mode: 0o600, UID: -1, GID: -1}.Listen()
	return err
}

// run serves until ctx ends and all sessions have drained. What the sessions
// need ends after them, in the reverse order of its start.
func (m *mail) run(ctx context.Context, ls []*net.TCPListener) error {
	var background sync.WaitGroup
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer background.Wait()
	defer end()
	exporters, err := m.events.exporters(m.cfg.Syslog)
	if err != nil {
		return err
	}
	m.events.use(life, &background, m.cfg.Syslog, exporters)
	background.Go(func() {
		if err := m.store.Run(life); err != nil {
			m.log.Error("record store", "error", err)
		}
	})
	background.Go(func() { m.memory.Run(life) })
	background.Go(func() { m.places.run(life) })
	background.Go(func() { m.tls.run(life, m.log, time.NewTicker(time.Hour).C) })
	m.startRouter(life, &background)
	background.Go(func() {
		allow := []uint32{0, uint32(os.Getuid())}
		if err := control.Serve(life, m.socket, allow, m.control(life, &background)); err != nil {
			m.log.Error("control socket", "error", err)
		}
	})
	defer m.guard.Close()
	notifyReady(m.log)
	var listeners []net.Listener
	for _, l := range ls {
		listeners = append(listeners, l)
	}
	return m.server.Serve(ctx, listeners...)
}

// startRouter runs m.router until the next one takes its place.
func (m *mail) startRouter(life context.Context, background *sync.WaitGroup) {
	ctx, stop := context.WithCancel(life)
	m.stopRouter = stop
	router := m.router
	background.Go(func() { router.Run(ctx) })
}

func (m *mail) control(life context.Context, background *sync.WaitGroup) http.Handler {
	mc := &mailControl{
		store: m.store, server: m.server, status: m.status, origin: m.places.origin,
		reload: func(ctx context.Context) (reloaded, error) { return m.reload(ctx, life, background) },
	}
	return mc.handler()
}

// reload puts a changed file in force. Everything that can go wrong goes wrong
// before anything has changed.
func (m *mail) reload(_, life context.Context, background *sync.WaitGroup) (reloaded, error) {
	next, err := checkedConfig(m.file)
	if err != nil {
		return reloaded{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	router, err := newRouter(next, m.memory, m.names)
	if err != nil {
		return reloaded{}, err
	}
	certs, err := m.tls.load(next)
	if err != nil {
		return reloaded{}, err
	}
	exporters, err := m.events.exporters(next.Syslog)
	if err != nil {
		return reloaded{}, err
	}
	if err := m.server.SetPolicy(smtpPolicy(next, router, m.tls)); err != nil {
		return reloaded{}, err
	}
	changed, later := config.Diff(m.cfg, next)
	m.tls.use(certs)
	m.events.use(life, background, next.Syslog, exporters)
	m.watch.SetRules(harvestRules(next.Harvest))
	records := recordOptions(next)
	m.store.SetLimits(records.Keep, records.BanMax, records.MaxSize)
	m.tiers.set(next)
	m.places.open(next.Geo)
	m.names.use(next.DNS)
	m.stopRouter()
	m.router, m.cfg, m.alarms = router, next, nil
	m.startRouter(life, background)
	keepConfig(m.file, filepath.Join(m.dir, "weir.toml.good"))
	return reloaded{Changed: changed, Later: later}, nil
}

// status is what weir status shows of this role.
func (m *mail) status(ctx context.Context) mailStatus {
	m.mu.Lock()
	router, cfg, alarms := m.router, m.cfg, append([]string(nil), m.alarms...)
	m.mu.Unlock()
	st, rs := m.server.Stats(), router.Status(m.memory)
	s := mailStatus{
		Started: m.started, Hostname: cfg.Hostname, Observe: cfg.Observe, Listeners: m.listeners,
		Open: st.Open, Connections: st.Connections, Outcomes: named(st.Outcomes), Reasons: named(st.Reasons),
		Sources: m.watch.Sources(), Backends: rs.Backends, Domains: rs.Domains, Records: m.store.Stats(ctx),
		Geo: m.places.sources(), TLS: m.tls.describe(), Alarms: alarms,
	}
	for _, a := range rs.Alarms {
		s.Alarms = append(s.Alarms, a.Text)
	}
	s.Alarms = append(append(s.Alarms, m.offender.alarms()...), m.events.alarms()...)
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
