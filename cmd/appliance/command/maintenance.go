package command

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
)

// How long the door stays closed where nobody says, and at the most: senders
// give up after some days, the first of them after one.
const (
	maintenanceUsual = time.Hour
	maintenanceMost  = 24 * time.Hour
)

func (c *cli) maintenanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "close the door for a while: everyone hears 421 and comes again",
		Long: `Close the door for a while, or open it. While it is closed every new connection hears 421 4.3.2
with the text and the time at which it opens by itself; mail servers come again. Connections that
are there go on. It outlives a restart, and weir status shows it.`,
	}
	return group(cmd, c.closeCommand(), c.openCommand())
}

func (c *cli) closeCommand() *cobra.Command {
	var d guard.Duration
	cmd := &cobra.Command{
		Use: "on [TEXT]", Short: "close the door", Args: args(cobra.MaximumNArgs(1)),
		Example: `  weir maintenance on
  weir maintenance on --for 30m "moving to a new disk"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s := mailapi.Shut{Author: author(), Until: c.now().Add(cmp.Or(time.Duration(d), maintenanceUsual))}
			if time.Duration(d) > maintenanceMost {
				return control.Usagef("--for %v is longer than %v, after which the first senders give up: close the door again then", time.Duration(d), maintenanceMost)
			}
			if len(args) > 0 {
				s.Text = args[0]
			}
			if err := mailapi.NewClient(c.runDir).Maintain(cmd.Context(), s); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			c.say("closed until %s", stamp(s.Until))
			return nil
		},
	}
	durationVar(cmd, &d, "for", "how long: 30m, 2h (default 1h, at most 24h)")
	return cmd
}

func (c *cli) openCommand() *cobra.Command {
	return &cobra.Command{
		Use: "off", Short: "open the door", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := mailapi.NewClient(c.runDir).Maintain(cmd.Context(), mailapi.Shut{}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(mailapi.Shut{})
			}
			c.say("open")
			return nil
		},
	}
}
