package main

import (
	"github.com/spf13/cobra"
)

func (c *cli) checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "validate the configuration file",
		Long: `Validate the configuration file without touching what runs. Every mistake is shown as
FILE:LINE:COL: what is wrong (what to do). The exit status is 1 when there is one.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, problems, err := readConfig(file)
			if err != nil {
				return err
			}
			for _, p := range problems {
				if c.json {
					if err := c.printJSON(p); err != nil {
						return err
					}
					continue
				}
				c.say("%s", p)
			}
			if problems.Bad() {
				return errSaid
			}
			c.say("%s is good", file)
			return nil
		},
	}
	configVar(cmd, &file)
	return cmd
}
