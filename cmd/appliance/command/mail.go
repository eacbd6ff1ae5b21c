package command

import (
	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailrole"
)

func (c *cli) mailCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "mail",
		Short: "the role that talks to strangers, for service managers",
		Long: `Run the role that talks SMTP. It takes its listening sockets by LISTEN_FDS, else binds
smtp.listen itself. Started as root it becomes users.mail at once: it needs no
capability. SIGHUP and WatchdogSec= are as with weir guard. weir run starts it by itself.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return mailrole.Run(cmd.Context(), c.start(file)) },
	}
	configVar(cmd, &file)
	return cmd
}
