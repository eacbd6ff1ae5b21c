package main

import (
	"errors"

	"github.com/spf13/cobra"

	"mailweir/control"
	"mailweir/firewall/guard"
)

// reloadAnswer is what came of a reload, role by role.
type reloadAnswer struct {
	Guard string   `json:"guard"` // "reloaded" or what went wrong
	Mail  string   `json:"mail"`
	Later []string `json:"later,omitempty"` // keys that take effect at the next start
}

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "read the configuration file again",
		Long: `Have both roles read the configuration file again. Each checks it first: a bad file
changes nothing. Live sessions go on under the policy that they began with.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Mail goes first: it checks the same file and knows more that can be wrong.
			m, mailErr := newMailClient(c.runDir).reload(cmd.Context())
			if mailErr != nil && !errors.Is(mailErr, control.ErrNotRunning) {
				return mailErr
			}
			ch, guardErr := guard.NewOperator(c.runDir).Reload(cmd.Context())
			if mailErr != nil && guardErr != nil {
				return mailErr
			}
			c.warn(ch.Warnings)
			a := reloadAnswer{Guard: reloadWord(guardErr), Mail: reloadWord(mailErr), Later: m.Later}
			if err := c.printReload(a); err != nil {
				return err
			}
			if mailErr != nil || guardErr != nil {
				return errSaid
			}
			return nil
		},
	}
}

func reloadWord(err error) string {
	if err != nil {
		return err.Error()
	}
	return "reloaded"
}

func (c *cli) printReload(a reloadAnswer) error {
	if c.json {
		return c.printJSON(a)
	}
	c.say("guard: %s", a.Guard)
	c.say("mail:  %s", a.Mail)
	for _, k := range a.Later {
		c.say("%s takes effect at the next start of weir run", k)
	}
	return nil
}
