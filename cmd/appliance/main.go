// Weir is the whole of Mailweir: the roles that run and the commands that
// steer them. This package is the only place where firewall and smtp meet.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c := &cli{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now}
	code := c.execute(ctx, asShell(os.Args))
	stop()
	os.Exit(code)
}

// commands are all the commands, in the order of the help.
func (c *cli) commands() []*cobra.Command {
	return []*cobra.Command{
		c.runCommand(), c.guardCommand(), c.mailCommand(),
		c.checkCommand(), c.reloadCommand(), c.statusCommand(),
		c.bansCommand(), c.banCommand(), c.unbanCommand(), c.confirmCommand(), c.firewallCommand(),
		c.maintenanceCommand(), c.allowCommand(), c.blockCommand(), c.listsCommand(),
		c.whyCommand(), c.recordsCommand(), c.replayCommand(), c.topCommand(), c.complainCommand(), c.testCommand(), c.geoCommand(),
		c.systemCommand(), c.upgradeCommand(), c.consoleCommand(), c.setupCommand(), c.versionCommand(), c.manualCommand(),
	}
}
