package command

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/firewall/guard"
	"mailweir/smtp/access"
)

func (c *cli) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "keep what is in force on trial",
		Long: `Keep what is in force on trial: bans of short prefixes, countries and networks that
weir reload has found in the file, and allow entries that were taken out. What is not
confirmed in time is undone, whether or not guard was running then: so that nobody locks
himself, or a country full of customers, out. weir status shows what is on trial.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.confirm(cmd.Context()) },
	}
}

func (c *cli) confirm(ctx context.Context) error {
	ch, err := guard.NewOperator(c.runDir).Confirm(ctx)
	if err != nil {
		return err
	}
	for _, t := range ch.Confirmed {
		if t.Allow == nil {
			continue
		}
		// The checks have let it in until now.
		e := access.Entry{Action: access.Allow, Subject: access.Subject{Kind: access.Address, Prefix: t.Allow.Prefix}}
		if err := mailapi.NewClient(c.runDir).RemoveEntry(ctx, e); err != nil {
			ch.Warnings = append(ch.Warnings, fmt.Sprintf("the checks let %v in still (weir allow --remove takes it out there): %v", e.Subject, err))
		}
	}
	c.warn(ch.Warnings)
	if c.json {
		return c.printJSON(ch)
	}
	for _, t := range ch.Confirmed {
		c.say("confirmed: %v", t)
	}
	return nil
}

// sayTrial says what is undone unless it is confirmed.
func (c *cli) sayTrial(t *guard.Trial) {
	if t != nil {
		c.say("on trial: %v. It is undone in %s: weir confirm keeps it", t, span(t.Until.Sub(c.now())))
	}
}

// trialVars defines how a change is tried.
func trialVars(cmd *cobra.Command, t *guard.TrialTerms) {
	durationVar(cmd, &t.ConfirmWithin, "confirm-within", "undo it after so long without weir confirm: 30s, 10m (default 5m for what is risky)")
	cmd.Flags().BoolVar(&t.NoTrial, "no-trial", false, "for good at once, risky or not: for scripts")
}

// session is where the operator of this command has come from by SSH. sudo takes
// that out of the environment, so the processes above are asked too.
func session() guard.Session {
	pid := os.Getpid()
	for range 32 {
		if s, ok := parseSession(environment(pid)["SSH_CONNECTION"]); ok {
			return s
		}
		if pid = parent(pid); pid <= 1 {
			break
		}
	}
	return guard.Session{}
}

// parseSession reads SSH_CONNECTION: their address and port, and ours.
func parseSession(s string) (guard.Session, bool) {
	words := strings.Fields(s)
	if len(words) != 4 {
		return guard.Session{}, false
	}
	peer, err := netip.ParseAddr(words[0])
	port, err2 := strconv.ParseUint(words[3], 10, 16)
	if err != nil || err2 != nil || port == 0 {
		return guard.Session{}, false
	}
	return guard.Session{Peer: peer, Port: uint16(port)}, true
}

func environment(pid int) map[string]string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil // not ours to read
	}
	env := map[string]string{}
	for _, v := range strings.Split(string(b), "\x00") {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// parent is the process above pid; 0: not known.
func parent(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}
