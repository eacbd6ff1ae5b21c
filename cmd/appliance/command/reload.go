package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
)

// reloadAnswer is what came of a reload.
type reloadAnswer struct {
	mailapi.Reloaded
	// Rules about places that are in force on trial.
	Trial *guard.Trial `json:"trial,omitempty"`
}

func (c *cli) reloadCommand() *cobra.Command {
	var terms guard.TrialTerms
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "read the configuration file again",
		Long: `Have the roles read their configuration file again. Each checks all of it first: a bad
file changes nothing, and is an alarm in weir status until it is mended and taken. Live
sessions go on under the policy that they began with.

Countries and networks that geo.drop or geo.ban names anew are in force on trial: they are
undone after five minutes unless weir confirm says that they were meant.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			terms.From = session()
			a, err := c.reload(cmd.Context(), terms)
			if err != nil {
				return err
			}
			return c.printReload(a)
		},
	}
	trialVars(cmd, &terms)
	return cmd
}

// reload asks both roles. Mail, whose part more can be wrong with, says first
// whether it would take the file; then guard takes it, then mail. A role that
// is not running reads the file when it starts.
func (c *cli) reload(ctx context.Context, terms guard.TrialTerms) (reloadAnswer, error) {
	var a reloadAnswer
	mailErr := mailapi.NewClient(c.runDir).Check(ctx)
	if mailErr != nil && !errors.Is(mailErr, control.ErrNotRunning) {
		return a, mailErr
	}
	ch, guardErr := guard.NewOperator(c.runDir).Reload(ctx, terms)
	if guardErr != nil && (mailErr != nil || !errors.Is(guardErr, control.ErrNotRunning)) {
		return a, guardErr
	}
	a.Warnings, a.Trial = ch.Warnings, ch.Trial
	if guardErr != nil {
		a.Warnings = append(a.Warnings, guardErr.Error())
	}
	if mailErr != nil {
		a.Warnings = append(a.Warnings, mailErr.Error())
		return a, nil
	}
	m, err := mailapi.NewClient(c.runDir).Reload(ctx)
	if err != nil {
		return a, fmt.Errorf("guard took the new configuration, mail did not: %w", err)
	}
	m.Warnings = append(a.Warnings, m.Warnings...)
	a.Reloaded = m
	return a, nil
}

func (c *cli) printReload(a reloadAnswer) error {
	c.warn(a.Warnings)
	if c.json {
		return c.printJSON(a)
	}
	c.sayTrial(a.Trial)
	if len(a.Changed)+len(a.Later) == 0 && a.Trial == nil {
		c.say("reloaded, nothing has changed")
	}
	for _, k := range a.Changed {
		on, switched := a.Switched[k]
		usual, unset := a.Unset[k]
		switch {
		case switched && on:
			c.say("%s: on now (was off)", k)
		case switched:
			c.say("%s: off now (was on)", k)
		case unset && usual == "":
			c.say("%s is taken out", k)
		case unset:
			c.say("%s is at its default again: %s", k, usual)
		default:
			c.say("%s is in force", k)
		}
	}
	for _, k := range a.Later {
		c.say("%s is read at the next start of weir run", k)
	}
	return nil
}
