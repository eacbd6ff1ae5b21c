package command

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailrole"
	"mailweir/cmd/appliance/process"
	"mailweir/cmd/appliance/settings"
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
			first := !cmd.Flags().Changed("config") && !settings.Exists(file)
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
		if err := settings.WriteFirst(file, settings.Guest); err != nil {
			return err
		}
	}
	begin := c.start(file)
	cfg, alarms, err := begin.Load("guard") // guard keeps the last good one for us both
	if err != nil {
		return err
	}
	c.warn(alarms)
	c.runDir = begin.RunDir
	user, err := settings.LookupUser(cfg.Users.Mail)
	if err != nil {
		return err
	}
	if err := mailrole.PrepareFolders(cfg, c.runDir, user); err != nil {
		return err
	}
	s := &process.Roles{RunDir: c.runDir, Config: file, Listen: cfg.SMTP.Listen, MailUser: user, Log: os.Stderr, Now: c.now}
	log := slog.New(slog.NewTextHandler(c.err, nil)).With("role", "run")
	s.Started = func() { c.sayStarted(file, cfg); process.NotifyReady(log) }
	defer process.Serviced{Log: log, Alive: func() { s.States() }, Reload: c.reloadSaid}.Begin(ctx)()
	return s.Run(ctx)
}

func (c *cli) sayStarted(file string, cfg config.Config) {
	if settings.StillFirst(file, cfg.Hostname) {
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

// firstSteps is what a stranger reads when weir run is up with the first configuration.
func firstSteps(path string, cfg config.Config) string {
	maildir := strings.TrimPrefix(cfg.Backends[0].URL, "maildir:")
	port := cfg.SMTP.Listen[0].Port()
	return fmt.Sprintf(`
weir is up, with a first configuration: %s
Send a mail to anna@example.com, in another terminal:

  swaks --server 127.0.0.1:%[2]d --to anna@example.com

or by hand, line by line, with nc -C 127.0.0.1 %[2]d (of the package netcat-openbsd):

  EHLO me.example
  MAIL FROM:<me@me.example>
  RCPT TO:<anna@example.com>
  DATA
  hello
  .

and look at it:

  cat %[3]s/new/*
  weir records; weir status

See a ban: guess addresses from another machine that has swaks (this one's own
addresses are never banned). The third round is cut off in its middle; one more
would hang, since its packets are dropped. Ask here why:

  for i in a b c; do
    swaks --server THIS-MACHINE:%[2]d --to $(seq -s, -f $i%%g@example.com 12)
  done

  weir bans; weir why THE-OTHER-MACHINE

Ctrl-C stops it and takes the firewall out of the kernel.
`, path, port, maildir)
}
