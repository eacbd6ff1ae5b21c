package command

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/guardrole"
	"mailweir/config"
	"mailweir/control"
	"mailweir/firewall/guard"
)

func (c *cli) firewallCommand() *cobra.Command {
	return group(&cobra.Command{Use: "firewall", Short: "take the firewall out of the kernel, and put it back"},
		c.switchCommand(false), c.switchCommand(true))
}

func (c *cli) switchCommand(on bool) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "off",
		Short: "take everything of ours out of the kernel, at once",
		Long: `Take the packet program and the nftables table out of the kernel. Bans are kept, and
nothing is dropped until weir firewall on, also over restarts. It works while guard
is dead too, or does not answer for five seconds: then it has to be run as root.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.switchFirewall(cmd.Context(), file, on) },
	}
	if on {
		cmd.Use, cmd.Short = "on", "put the firewall back into the kernel"
		cmd.Long = "Put the packet program and the nftables table back into the kernel, with all bans that stand."
	}
	configVar(cmd, &file)
	return cmd
}

// switchAnswer is what came of weir firewall off or on.
type switchAnswer struct {
	Firewall string   `json:"firewall"`        // "on" or "off", from now on
	Guard    bool     `json:"guard"`           // guard runs, and did it
	Hangs    bool     `json:"hangs,omitempty"` // guard runs, and does not answer
	Warnings []string `json:"warnings,omitempty"`
}

// guardWithin is how long guard may take to leave the kernel, before it is done
// without it.
const guardWithin = 5 * time.Second

func (c *cli) switchFirewall(ctx context.Context, file string, on bool) error {
	a := switchAnswer{Firewall: "off", Guard: true}
	if on {
		a.Firewall = "on"
	}
	asked, cancel := context.WithTimeout(ctx, guardWithin)
	defer cancel()
	if on {
		asked = ctx // millions of bans take their time
	}
	change, err := guard.NewOperator(c.runDir).Switch(asked, on)
	a.Warnings = change.Warnings
	if asked.Err() != nil && ctx.Err() == nil {
		a.Hangs = true
	}
	if errors.Is(err, control.ErrNotRunning) || a.Hangs {
		a.Guard = false
		err = c.switchAlone(ctx, stateDirOf(file), on)
	}
	if err != nil {
		return err
	}
	return c.printSwitch(a)
}

// switchAlone does what guard would do. It is the way out when guard itself is
// what is broken, so it asks as little as it can of the rest.
func (c *cli) switchAlone(ctx context.Context, stateDir string, on bool) error {
	if os.Geteuid() != 0 {
		return control.Refusef("guard is not running, and only root can change the kernel in its place: run the command as root")
	}
	if on {
		return guard.SwitchOn(stateDir)
	}
	return errors.Join(guard.SwitchOff(stateDir, c.now()), guardrole.RemoveEngines(ctx))
}

// stateDirOf is the state_dir of a file that may be bad or not there at all.
func stateDirOf(file string) string {
	_, cfg, _, err := config.Read(file)
	if err != nil {
		return config.Default().StateDir
	}
	return cfg.StateDir
}

func (c *cli) printSwitch(a switchAnswer) error {
	c.warn(a.Warnings)
	switch {
	case c.json:
		return c.printJSON(a)
	case a.Guard && a.Firewall == "on":
		c.say("the firewall is in the kernel again")
	case a.Guard:
		c.say("the firewall is out of the kernel: nothing is dropped until weir firewall on")
	case a.Hangs:
		c.say("guard does not answer: what it had in the kernel is out of it, and guard will")
		c.say("leave the kernel alone, now and after a start, until weir firewall on")
	case a.Firewall == "on":
		c.say("guard is not running: the firewall comes back when it starts")
	default:
		c.say("guard is not running: what it had left in the kernel is out of it, and it will")
		c.say("leave the kernel alone until weir firewall on")
	}
	return nil
}
