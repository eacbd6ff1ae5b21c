package command

import (
	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/guardrole"
)

func (c *cli) guardCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "the role that holds the kernel, for service managers",
		Long: `Run the role that holds bans and the kernel's side. It starts as root, keeps
CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON and nothing else, and reports readiness by
sd_notify when all bans are in force. SIGHUP is a reload, told to the manager too; with
WatchdogSec= it says that it is alive. weir run starts it by itself.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return guardrole.Run(cmd.Context(), c.start(file)) },
	}
	configVar(cmd, &file)
	return cmd
}
