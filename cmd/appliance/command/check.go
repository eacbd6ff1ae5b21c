package command

import (
	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/settings"
)

func (c *cli) checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "validate the configuration file",
		Long: `Validate the configuration file without touching what runs. Every mistake is shown as
FILE:LINE:COL: what is wrong (what to do). The exit status is 1 when there is one.
Where the mail role runs, it is asked which senders that it knows to be good the rules of
[geo] would hit, and which names weir allow has that the kernel would never let say who they
are: they are warned of. So are backends whose names the DNS does not know.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, problems, err := settings.Read(file)
			if err != nil {
				return err
			}
			problems = append(problems, c.geoWarnings(cmd.Context(), file)...)
			problems = append(problems, c.nameWarnings(cmd.Context(), file)...)
			problems = append(problems, c.routeWarnings(cmd.Context(), file)...)
			problems.Sort()
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
