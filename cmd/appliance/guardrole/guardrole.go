// Package guardrole is weir guard: the process that holds bans and the kernel's
// side.
package guardrole

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"

	"mailweir/cmd/appliance/process"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/firewall/guard"
	"mailweir/firewall/nft"
	"mailweir/firewall/xdp"
)

// Run is the life of the guard role.
func Run(ctx context.Context, s settings.Start) error {
	process.SetName("weir-guard")
	if os.Geteuid() != 0 {
		return errors.New("guard has to be started as root: it attaches to the kernel, then gives up what it does not need")
	}
	cfg, alarms, err := s.Load("guard")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(s.Log, nil)).With("role", "guard")
	for _, a := range alarms {
		log.Error(a)
	}
	mail, err := settings.LookupUser(cfg.Users.Mail)
	if err != nil {
		return err
	}
	names := settings.NewResolver(cfg.DNS)
	earth := &world{log: log}
	policy := func(cfg config.Config) guard.Policy {
		p := settings.Guard(cfg)
		p.World, p.Deny, p.Banish = earth.use(cfg.Geo)
		return p
	}
	var refused settings.Refusal
	engines := openEngines(cfg.Firewall)
	defer closeEngines(engines, log)
	g, err := guard.New(guard.Config{
		RunDir: s.RunDir, StateDir: cfg.StateDir, MailUID: mail.Uid,
		Engines: engines, Policy: policy(cfg),
		Alarms: func() []guard.Alarm {
			return slices.Concat(earth.alarms(), settings.DamagedConfig(cfg.StateDir), refused.Alarms())
		},
		Reload: func(context.Context) (guard.Policy, error) {
			next, err := settings.Checked(s.File)
			if refused.Note(err); err != nil {
				return guard.Policy{}, err
			}
			names.Use(next.DNS)
			return policy(config.InForce(cfg, next)), nil
		},
		Resolver: names, Now: s.Now, Log: log,
		Ready: func() { process.NotifyReady(log) },
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
	defer process.Serviced{Log: log, Alive: g.Alive, Reload: func(ctx context.Context) error {
		_, err := guard.NewOperator(s.RunDir).Reload(ctx, guard.TrialTerms{})
		return err
	}}.Begin(ctx)()
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

// RemoveEngines takes every engine out of the kernel, whichever the file names
// and whatever state it is in.
func RemoveEngines(ctx context.Context) error {
	return errors.Join(xdp.Remove(ctx, xdp.DefaultPinDir), nft.Remove(ctx))
}
