package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"mailweir/config"
	"mailweir/firewall/guard"
)

func (c *cli) runCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "run everything on this machine",
		Long: `Run the whole appliance: guard and mail as processes of their own, each with its own
user. One that dies is started again; the other goes on meanwhile. SIGTERM drains and
stops: mail first, then guard. SIGHUP is weir reload.

Without a configuration file, and without -c, a first one is written, with which the
appliance can be tried out on this machine.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			first := !cmd.Flags().Changed("config") && !exists(file)
			return c.runAll(cmd.Context(), file, first)
		},
	}
	configVar(cmd, &file)
	return cmd
}

// runAll is the life of weir run.
func (c *cli) runAll(ctx context.Context, file string, first bool) error {
	if os.Geteuid() != 0 {
		return errors.New("weir run has to be started as root: its roles give up what they do not need")
	}
	if first {
		if err := firstFile(file); err != nil {
			return err
		}
	}
	cfg, alarms, err := startConfig(file, "guard") // guard keeps the last good one for us both
	if err != nil {
		return err
	}
	c.warn(alarms)
	c.useRunDir(cfg)
	user, err := lookupUser(cfg.Users.Mail)
	if err != nil {
		return err
	}
	if err := prepareMailFolders(cfg, c.runDir, user); err != nil {
		return err
	}
	s := &system{runDir: c.runDir, config: file, listen: cfg.SMTP.Listen, mailUser: user, log: os.Stderr, now: c.now}
	log := slog.New(slog.NewTextHandler(c.err, nil)).With("role", "run")
	s.started = func() { c.sayStarted(file, cfg); notifyReady(log) }
	defer serviced{log: log, alive: func() { s.states() }, reload: c.reloadSaid}.begin(ctx)()
	return s.run(ctx)
}

func (c *cli) sayStarted(file string, cfg config.Config) {
	if stillFirst(file, cfg.Hostname) {
		fmt.Fprint(c.out, firstSteps(file, cfg))
		return
	}
	fmt.Fprintf(c.err, "weir run: up as %s on %v\n", cfg.Hostname, cfg.SMTP.Listen)
}

// reloadSaid does what weir reload does. What came of it is on standard error.
func (c *cli) reloadSaid(ctx context.Context) error {
	_, err := c.reload(ctx, guard.TrialTerms{})
	if err == nil {
		fmt.Fprintln(c.err, "weir run: reloaded")
	}
	return err
}
