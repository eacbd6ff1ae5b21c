package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"mailweir/control"
	"mailweir/firewall"
)

// How often guard looks after things by itself.
const (
	intactEvery = 400 * time.Millisecond // a flushed table is mended within a second
	mendEvery   = 10 * time.Second       // ended bans, samples, what went wrong before
	lookupEvery = time.Minute            // protected host names
	sampleEvery = time.Second            // samples of drops
)

// sampleSize is how many bans the engines are asked for at a time.
const sampleSize = 1000

// Config is what a Server is made of.
type Config struct {
	RunDir   string // guard's sockets go to RunDir/guard, which New makes
	StateDir string // ledger and lists go to StateDir/guard, which New makes
	MailUID  uint32 // the only user that may report offences
	Engines  []Engine
	Policy   Policy
	Reload   func(context.Context) (Policy, error) // reads the file again; nil: reload is refused
	Resolver Resolver                              // nil: net.DefaultResolver
	Now      func() time.Time                      // nil: time.Now
	Log      *slog.Logger                          // nil: nothing is logged
	Alarms   func() []Alarm                        // what is wrong with what the policy is made of; may be nil
	Ready    func()                                // called once, when the ledger is in the engines and the sockets answer; may be nil
}

func (c Config) withDefaults() Config {
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Alarms == nil {
		c.Alarms = func() []Alarm { return nil }
	}
	if c.Ready == nil {
		c.Ready = func() {}
	}
	return c
}

// Server is the guard role.
type Server struct {
	cfg      Config
	started  time.Time
	alarms   []string // found at the start; they stay until the next
	ledger   *firewall.Ledger
	allow    *allowList
	trials   *trials
	present  *present
	wanted   places // of the file, whatever of it is on trial; verbs holds it
	engines  *engines
	hosts    *hosts
	sessions *sessions
	court    *court
	witness  witness
	logs     *banLog
	samples  sampled

	offences *net.UnixListener
	operator *net.UnixListener

	order     sync.Mutex // held from a change of the ledger until the engines have it, or have it queued
	verbs     sync.Mutex // one change of settings at a time
	trying    sync.Mutex // one change of what is on trial at a time; after verbs
	looking   sync.Mutex // one look at a time: an older one must not overtake
	overruled time.Time  // of a note of off that could not be taken back; verbs holds it
	policy    atomic.Pointer[Policy]
	off       atomic.Bool // by the operator
	missing   atomic.Pointer[[]string]
	lookAgain chan struct{}

	answer  recent // what the mail role was told is wrong
	figures recent // and of what is counted
}

// New makes guard's folders and sockets and reads its ledger. It needs the
// privileges of root; DropPrivileges may be called after it, before Run.
// Whatever New made is closed by Run.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, started: cfg.Now(), logs: newBanLog(cfg.Log, cfg.Now), lookAgain: make(chan struct{}, 1)}
	s.policy.Store(&cfg.Policy)
	s.present = newPresent(cfg.Now)
	s.missing.Store(new([]string))
	var err error
	if s.witness, err = newWitness(); err != nil {
		return nil, fmt.Errorf("ask for our network namespace: %w", err)
	}
	if err := s.openState(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, errors.Join(err, s.ledger.Close())
	}
	s.engines = newEngines(cfg.Engines, s.ledger, cfg.Now, cfg.Log)
	s.hosts = newHosts(cfg.Resolver, cfg.Log)
	s.sessions = newSessions(func() []uint16 { return s.currentPolicy().ports() }, spare(s.ledger), cfg.Log)
	s.court = newCourt(cfg.MailUID, cfg.Now, cfg.Log, s.judge)
	s.court.tell = s.tell
	return s, nil
}

func (s *Server) openState() error {
	if err := makeFolder(s.cfg.StateDir, 0o700); err != nil {
		return err
	}
	dir := filepath.Join(s.cfg.StateDir, folder)
	ledger, found, err := firewall.OpenLedger(filepath.Join(dir, "ledger"), s.terms(s.cfg.Policy), s.cfg.Now)
	if err != nil {
		return err
	}
	allow, alarm := openAllowList(filepath.Join(dir, "allow.json"), s.cfg.Now)
	if alarm != "" {
		found.Alarms = append(found.Alarms, alarm)
	}
	for _, alarm := range found.Alarms {
		s.cfg.Log.Error(alarm)
	}
	trials, trialAlarm := openTrials(filepath.Join(dir, "trials.json"), s.cfg.Now)
	if trialAlarm != "" {
		s.cfg.Log.Error(trialAlarm)
		found.Alarms = append(found.Alarms, trialAlarm)
	}
	s.ledger, s.allow, s.trials, s.alarms = ledger, allow, trials, found.Alarms
	undone := s.undoDue()
	s.tryPlaces(s.cfg.Policy, TrialTerms{}, false)
	s.unbanish(undone)
	s.off.Store(readSwitch(s.cfg.StateDir).Off)
	return nil
}

func (s *Server) listen() (err error) {
	if err := makeFolder(s.cfg.RunDir, 0o755); err != nil {
		return err
	}
	if s.offences, err = offenceSocket(s.cfg.RunDir, s.cfg.MailUID).Listen(); err != nil {
		return err
	}
	operator := control.Socket{Path: OperatorPath(s.cfg.RunDir), Mode: 0o600, UID: -1, GID: -1}
	if s.operator, err = operator.Listen(); err != nil {
		return errors.Join(err, s.offences.Close())
	}
	return nil
}

// offenceSocket is the mail role's. Guard's own group may write to it too: under
// a service manager root is nobody's superior (no CAP_DAC_OVERRIDE), and has to
// find out whether the socket that is there is a dead guard's.
func offenceSocket(runDir string, mailUID uint32) control.Socket {
	return control.Socket{Path: OffencePath(runDir), Mode: 0o660, UID: int(mailUID), GID: -1, Packet: true}
}

func (s *Server) terms(p Policy) firewall.Terms {
	return firewall.Terms{First: p.BanTTL, Max: p.BanMax}
}

func (s *Server) currentPolicy() Policy { return *s.policy.Load() }

// Run restores the ledger into the engines, reports readiness, and serves
// until ctx ends. Bans stay in the kernel, unless Policy.DetachOnStop.
func (s *Server) Run(ctx context.Context) error {
	s.lookup(ctx)
	s.lookForOperators()
	err := s.look(ctx)
	if err == nil {
		s.engines.want(s.enforcing())
		s.engines.settle(ctx)
		err = s.serve(ctx)
	}
	detach := s.currentPolicy().DetachOnStop
	s.engines.each(func(e *engine) {
		if stop := e.close(context.WithoutCancel(ctx), detach); stop != nil {
			s.cfg.Log.Error("engine could not be closed", "engine", e.name, "error", stop)
		}
	})
	s.offences.Close() // closed already where they were served
	s.operator.Close()
	return errors.Join(err, s.ledger.Close())
}

func (s *Server) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.ledger.Run(ctx) })
	g.Go(func() error { s.engines.run(ctx); return nil })
	g.Go(func() error { s.sessions.run(ctx); return nil })
	g.Go(func() error { s.watch(ctx); return nil })
	g.Go(func() error { s.care(ctx); return nil })
	g.Go(func() error { return s.court.serve(ctx, s.offences) })
	g.Go(func() error {
		return control.Serve(ctx, s.operator, []uint32{uint32(os.Geteuid())}, s.routes())
	})
	// What reading the ledger and the countries took is more than what is kept.
	debug.FreeOSMemory()
	s.cfg.Log.Info("guard serves", "bans", s.ledger.Len(), "firewall", s.firewall())
	s.cfg.Ready()
	return g.Wait()
}

// enforcing says whether bans are to be in the kernel.
func (s *Server) enforcing() bool { return s.currentPolicy().Enabled && !s.off.Load() }

func (s *Server) firewall() string {
	switch {
	case !s.currentPolicy().Enabled:
		return "disabled"
	case s.off.Load():
		return "off"
	}
	return "on"
}

// Alive returns when the locks that every ban needs could be had.
func (s *Server) Alive() {
	s.order.Lock()
	defer s.order.Unlock()
	s.ledger.Guards()
}

// care does what is due from time to time, until ctx ends.
func (s *Server) care(ctx context.Context) {
	intact, mend, lookup := time.NewTicker(intactEvery), time.NewTicker(mendEvery), time.NewTicker(lookupEvery)
	sample := time.NewTicker(sampleEvery)
	defer sample.Stop()
	defer intact.Stop()
	defer mend.Stop()
	defer lookup.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-intact.C:
			s.heed()
			s.engines.intact(ctx)
			s.expireAllow()
			s.undoTrials(ctx)
		case <-sample.C:
			s.sample()
		case <-mend.C:
			s.mend(ctx)
		case <-lookup.C:
			s.lookup(ctx)
			s.lookSoon()
		case <-s.lookAgain:
			if err := s.look(ctx); err != nil {
				s.cfg.Log.Error("guard cannot see the network, what it knew of it stays", "error", err)
			}
		}
	}
}

func (s *Server) lookSoon() {
	select {
	case s.lookAgain <- struct{}{}:
	default:
	}
}

func (s *Server) expireAllow() {
	some, err := s.allow.expire()
	if err != nil {
		s.cfg.Log.Error("expired allow entries are still on the disk", "error", err)
	}
	if some {
		s.lookSoon()
	}
}

// mend takes out of the engines what is over, asks them for a sample of what
// is not, and tries again what went wrong.
func (s *Server) mend(ctx context.Context) {
	s.lookForOperators()
	s.lift(ctx, s.ledger.Sweep())
	s.engines.probe(ctx, &s.order, append(s.engines.justMade(), s.ledger.Sample(sampleSize)...))
	s.engines.retry()
	s.engines.each(func(e *engine) { e.refit(s.ledger.Active()) })
	s.engines.share()
}

// lift takes bans out of the engines that the ledger ended by itself, unless
// they were made again meanwhile.
func (s *Server) lift(ctx context.Context, ended []firewall.Ban) {
	s.order.Lock()
	defer s.order.Unlock()
	s.engines.change(ctx, nil, slices.DeleteFunc(ended, func(b firewall.Ban) bool {
		_, again := s.ledger.Exactly(b.Prefix)
		return again
	}))
}

// watch has the surroundings looked at when they change, whatever happens to
// the subscription.
func (s *Server) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := watchNetwork(ctx, s.lookSoon); err != nil {
			s.cfg.Log.Warn("the watch of the network broke off, it is begun again", "error", err)
			wait(ctx, time.Second)
			s.lookSoon()
		}
	}
}

func (s *Server) lookup(ctx context.Context) {
	s.hosts.lookup(ctx, s.currentPolicy().hosts())
}

// look sees to it that guards and rules fit the network, the policy and the
// allow list as they are now.
func (s *Server) look(ctx context.Context) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	around, err := lookAround()
	if err != nil {
		return err
	}
	p := s.currentPolicy()
	guards := firewall.NewGuards(s.guards(around, p))
	interfaces, problems := around.interfaces(p)
	s.missing.Store(&problems)
	ports := p.ports()
	slices.Sort(ports)
	s.engines.setRules(firewall.Rules{
		Interfaces: interfaces, Ports: ports, Allow: allowedInKernel(guards), Observe: p.Observe,
		World: p.World, Deny: p.Deny,
		SYNPerMinute: p.SYNPerMinute, FloodPerSecond: p.FloodPerSecond, ExplainPerHour: p.ExplainPerHour,
	})
	s.pardon(ctx, guards)
	return nil
}

// pardon makes guards the guards and lifts the bans they forbid.
func (s *Server) pardon(ctx context.Context, guards *firewall.Guards) {
	pardons := s.ledger.SetGuards(guards)
	bans := make([]firewall.Ban, len(pardons))
	for i, p := range pardons {
		bans[i] = p.Ban
		s.logs.pardoned(p)
	}
	s.lift(ctx, bans)
}

// resetSessions ends what banned sources hold open, if bans are in force.
func (s *Server) resetSessions(prefixes ...netip.Prefix) {
	if s.enforcing() && !s.currentPolicy().Observe && len(prefixes) > 0 {
		s.sessions.reset(prefixes...)
	}
}
