package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mailweir/control"
	"mailweir/firewall/guard"
)

// reloadAnswer is what came of a reload.
type reloadAnswer struct {
	Changed  []string `json:"changed,omitempty"` // keys whose new values are in force
	Later    []string `json:"later,omitempty"`   // keys that are read at the next start
	Warnings []string `json:"warnings,omitempty"`
}

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "read the configuration file again",
		Long: `Have the roles read their configuration file again. Each checks all of it first: a bad
file changes nothing. Live sessions go on under the policy that they began with.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.reload(cmd.Context())
			if err != nil {
				return err
			}
			return c.printReload(a)
		},
	}
}

// reload asks both roles. Mail goes first: it checks the same file, and more
// can be wrong with what it opens. A role that is not running reads the file
// when it starts.
func (c *cli) reload(ctx context.Context) (reloadAnswer, error) {
	var a reloadAnswer
	m, mailErr := newMailClient(c.runDir).reload(ctx)
	if mailErr != nil && !errors.Is(mailErr, control.ErrNotRunning) {
		return a, mailErr
	}
	ch, guardErr := guard.NewOperator(c.runDir).Reload(ctx)
	a = reloadAnswer{Changed: m.Changed, Later: m.Later, Warnings: ch.Warnings}
	switch {
	case mailErr != nil && guardErr != nil:
		return a, mailErr
	case mailErr != nil:
		a.Warnings = append(a.Warnings, mailErr.Error())
	case errors.Is(guardErr, control.ErrNotRunning):
		a.Warnings = append(a.Warnings, guardErr.Error())
	case guardErr != nil:
		return a, fmt.Errorf("mail took the new configuration, guard did not: %w", guardErr)
	}
	return a, nil
}

func (c *cli) printReload(a reloadAnswer) error {
	c.warn(a.Warnings)
	if c.json {
		return c.printJSON(a)
	}
	if len(a.Changed)+len(a.Later) == 0 {
		c.say("reloaded, nothing has changed")
	}
	for _, k := range a.Changed {
		c.say("%s is in force", k)
	}
	for _, k := range a.Later {
		c.say("%s is read at the next start of weir run", k)
	}
	return nil
}
