package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"mailweir/config"
	"mailweir/dns"
	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/firewall/nft"
	"mailweir/firewall/xdp"
)

func (c *cli) guardCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "the role that holds the kernel, for service managers",
		Long: `Run the role that holds bans and the kernel's side. It starts as root, keeps
CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON and nothing else, and reports readiness by
sd_notify when all bans are in force. SIGHUP is a reload, told to the manager too; with
WatchdogSec= it says that it is alive. weir run starts it by itself.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runGuard(cmd.Context(), file) },
	}
	configVar(cmd, &file)
	return cmd
}

// runGuard is the life of the guard role.
func (c *cli) runGuard(ctx context.Context, file string) error {
	nameProcess("weir-guard")
	if os.Geteuid() != 0 {
		return errors.New("guard has to be started as root: it attaches to the kernel, then gives up what it does not need")
	}
	cfg, alarms, err := startConfig(file, "guard")
	if err != nil {
		return err
	}
	c.useRunDir(cfg)
	log := slog.New(slog.NewTextHandler(c.err, nil)).With("role", "guard")
	for _, a := range alarms {
		log.Error(a)
	}
	mail, err := lookupUser(cfg.Users.Mail)
	if err != nil {
		return err
	}
	names := newResolver(cfg.DNS)
	earth := &world{log: log}
	policy := func(cfg config.Config) guard.Policy {
		p := guardPolicy(cfg)
		p.World, p.Deny, p.Banish = earth.use(cfg.Geo)
		return p
	}
	engines := openEngines(cfg.Firewall)
	defer closeEngines(engines, log)
	g, err := guard.New(guard.Config{
		RunDir: c.runDir, StateDir: cfg.StateDir, MailUID: mail.Uid,
		Engines: engines, Policy: policy(cfg),
		Alarms: func() []guard.Alarm { return append(earth.alarms(), damagedConfig(cfg.StateDir)...) },
		Reload: func(context.Context) (guard.Policy, error) {
			next, err := checkedConfig(file)
			if err != nil {
				return guard.Policy{}, err
			}
			names.use(next.DNS)
			return policy(config.InForce(cfg, next)), nil
		},
		Resolver: names, Now: c.now, Log: log,
		Ready: func() { notifyReady(log) },
	})
	if err != nil {
		return err
	}
	if err := guard.Hurry(); err != nil {
		log.Warn("guard waits its turn where the processors are busy, bans come later then", "error", err)
	}
	if err := guard.DropPrivileges(); err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	background.Go(func() { earth.watch(watch, g.SetWorld) })
	defer serviced{log: log, alive: g.Alive, reload: func(ctx context.Context) error {
		_, err := guard.NewOperator(c.runDir).Reload(ctx, guard.TrialTerms{})
		return err
	}}.begin(ctx)()
	return g.Run(ctx)
}

// openEngines makes the engines that the file asks for. One that cannot be made
// is handed on with its error: guard says so in its status and goes on with the
// other.
func openEngines(f config.Firewall) []guard.Engine {
	var engines []guard.Engine
	if f.Engine != "nft" {
		t, err := xdp.Open(xdp.Options{Mode: xdp.Mode(f.XDPMode)})
		engines = append(engines, guard.Engine{Name: "xdp", Enforcer: t, Err: err})
	}
	if f.Engine != "xdp" {
		t, err := nft.Open(nft.Options{})
		engines = append(engines, guard.Engine{Name: "nft", Enforcer: t, Err: err})
	}
	return engines
}

func closeEngines(engines []guard.Engine, log *slog.Logger) {
	for _, e := range engines {
		if e.Err != nil {
			continue
		}
		if err := e.Enforcer.Close(); err != nil {
			log.Error("engine does not close", "engine", e.Name, "error", err)
		}
	}
}

// guardPolicy takes what guard uses out of the file.
func guardPolicy(cfg config.Config) guard.Policy {
	return guard.Policy{
		Enabled: cfg.Firewall.Enabled, Observe: cfg.Observe,
		Interfaces: cfg.Firewall.Interfaces, Listen: cfg.SMTP.Listen, Ports: cfg.Firewall.Ports,
		BanTTL: cfg.Firewall.BanTTL, BanMax: cfg.Firewall.BanMax,
		Protect:      protections(cfg),
		DetachOnStop: cfg.Firewall.DetachOnStop,
		SYNPerMinute: synLimit(cfg), FloodPerSecond: cfg.Firewall.FloodPerSecond, ExplainPerHour: cfg.Firewall.ExplainPerHour,
	}
}

// synFactor is how much more the kernel lets a source open than the gate takes
// of it: the gate says so, the kernel is silent.
const synFactor = 8

func synLimit(cfg config.Config) int {
	if !cfg.Firewall.SYNLimit {
		return 0
	}
	return synFactor * cfg.SMTP.PerSource.NewPerMinute
}

// protections are those whom no ban may hit, besides what guard knows itself.
func protections(cfg config.Config) []guard.Protection {
	backends := guard.Protection{Name: firewall.GuardBackend}
	for _, b := range cfg.Backends {
		u, err := url.Parse(b.URL)
		if err != nil || u.Hostname() == "" {
			continue // a folder or a local socket
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			backends.Prefixes = append(backends.Prefixes, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		} else {
			backends.Hosts = append(backends.Hosts, u.Hostname())
		}
	}
	resolvers := guard.Protection{Name: firewall.GuardResolver}
	for _, a := range dnsServers(cfg.DNS) {
		resolvers.Prefixes = append(resolvers.Prefixes, netip.PrefixFrom(a.Addr().Unmap(), a.Addr().Unmap().BitLen()))
	}
	return []guard.Protection{
		backends, resolvers,
		{Name: firewall.GuardNeverBan, Prefixes: cfg.Firewall.NeverBan},
		{Name: firewall.GuardForwarder, Prefixes: cfg.SMTP.Forwarders},
	}
}

// dnsServers are those of the file, else those of the machine.
func dnsServers(d config.DNS) []netip.AddrPort {
	if len(d.Servers) > 0 {
		return d.Servers
	}
	return dns.MachineServers("/etc/resolv.conf")
}

// lookupUser finds the user of a role. Users of the system only: the roles are
// built without cgo and read /etc/passwd.
func lookupUser(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("there is no user %q to run the mail role as: make it with `useradd --system --no-create-home --shell /usr/sbin/nologin %[1]s`, or name another with users = { mail = … }", name)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("read the ids of user %q: %w", name, err)
	}
	if uid == 0 {
		return nil, fmt.Errorf("users.mail = %q is root: the mail role reads what strangers send and must have no privilege, so name another user", name)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// configVar defines -c.
func configVar(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", defaultConfig, "the configuration file")
}
