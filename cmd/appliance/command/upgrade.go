package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/machine"
	"mailweir/cmd/appliance/settings"
	"mailweir/control"
)

func (c *cli) upgradeCommand() *cobra.Command {
	var back, status, settle, stay bool
	cmd := &cobra.Command{
		Use:   "upgrade [FILE|-]",
		Short: "start another version of the appliance image",
		Long: `Write a signed update bundle to the other slot of the disk and restart into it. The new
version is kept only if it comes up well: mail answers, and bans hold in the kernel.
Else the machine goes back by itself, after three tries. Settings, bans, records and
keys are on a partition of their own, and stay.

A bundle that is not signed for this machine, is older than what runs, or would take the
only version away that is known to be good, is refused before anything is written.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if !settings.OnImage("/") {
				return errors.New("this machine is not the appliance image: it is upgraded as it was installed")
			}
			switch {
			case settle:
				return c.settle(cmd.Context())
			case status && len(a) == 0 && !back:
				return c.slotStatus()
			case back && len(a) == 0:
				return c.goBack(cmd.Context(), !stay)
			case len(a) == 1 && !back && !status:
				return c.upgrade(cmd.Context(), a[0], !stay)
			}
			return control.Usagef("name a bundle, or say --back or --status")
		},
	}
	cmd.Flags().BoolVar(&back, "back", false, "restart into the version before")
	cmd.Flags().BoolVar(&status, "status", false, "say which versions there are")
	cmd.Flags().BoolVar(&stay, "no-restart", false, "write it, and let somebody else restart the machine")
	cmd.Flags().BoolVar(&settle, "settle", false, "confirm the version that was started, or restart: the image does this at each boot")
	cmd.Flags().MarkHidden("settle")
	return cmd
}

func (c *cli) upgrade(ctx context.Context, file string, restart bool) error {
	m, err := machine.Slots()
	if err != nil {
		return err
	}
	var in io.Reader = c.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("read the bundle: %w", err)
		}
		defer f.Close()
		in = f
	}
	version, err := m.Upgrade(bufio.NewReaderSize(in, 1<<20))
	if err != nil {
		return err
	}
	c.say("%s is written; it is kept when mail answers and bans hold, else %s comes back", version, m.Version)
	return c.restart(ctx, restart)
}

func (c *cli) goBack(ctx context.Context, restart bool) error {
	m, err := machine.Slots()
	if err != nil {
		return err
	}
	version, err := m.Back()
	if err != nil {
		return err
	}
	c.say("%s starts next", version)
	return c.restart(ctx, restart)
}

func (c *cli) restart(ctx context.Context, now bool) error {
	if !now {
		return nil
	}
	c.say("restarting")
	return machine.Reboot(ctx)
}

func (c *cli) slotStatus() error {
	m, err := machine.Slots()
	if err != nil {
		return err
	}
	s, err := m.Status()
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(s)
	}
	c.say("running   %s", s.Running)
	if !s.Confirmed {
		c.say("          on trial: not confirmed yet, %s left", plural(s.TriesLeft, "try"))
	}
	if s.Other != "" {
		c.say("way back  %s (weir upgrade --back)", s.Other)
	}
	if s.Failed != "" {
		c.say("failed    %s did not come up", s.Failed)
	}
	return nil
}

// settleTime is how long a version may take to come up.
const settleTime = 4 * time.Minute

// settle confirms the version that runs. One that is on trial and does not come
// up well ends in an error, on which the service manager restarts the machine:
// the boot loaders count. A version that was confirmed once is never restarted
// for what looks wrong: that would end mail that still flows.
func (c *cli) settle(ctx context.Context) error {
	m, err := machine.Slots()
	if err != nil {
		return c.onlySaid(err)
	}
	before, err := m.Status()
	if err != nil {
		return c.onlySaid(err)
	}
	wait, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := c.comesUp(wait); err != nil {
		if before.Confirmed {
			return c.onlySaid(err)
		}
		return fmt.Errorf("%s does not come up well: %w", m.Version, err)
	}
	failed, err := m.Confirm()
	if err != nil {
		return c.onlySaid(err)
	}
	if failed != "" {
		c.say("the update to %s failed: %s runs as before", failed, m.Version)
	}
	c.say("%s came up well", m.Version)
	return nil
}

// onlySaid is an error of book-keeping, for which nobody restarts a machine.
func (c *cli) onlySaid(err error) error {
	fmt.Fprintf(c.err, "weir upgrade: %s\n", printableLines(err.Error()))
	return nil
}

// comesUp waits until mail answers and bans hold, and says what does not.
func (c *cli) comesUp(ctx context.Context) error {
	for {
		err := c.healthy(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func (c *cli) healthy(ctx context.Context) error {
	s, err := c.findStatus(ctx)
	if err != nil {
		return err
	}
	return s.holds(ctx)
}

// holds is nil when bans hold and every listener answers.
func (s wholeStatus) holds(ctx context.Context) error {
	if s.Guard == nil || s.Mail == nil {
		return errors.New(strings.Join(s.Problems, "; "))
	}
	for _, e := range s.Guard.Engines {
		if s.Guard.Firewall == "on" && (!e.Working || e.Bans+e.LeftOut < s.Guard.Bans) {
			return fmt.Errorf("%s holds %d of %d bans: %s", e.Engine, e.Bans, s.Guard.Bans, strings.Join(e.Problems, "; "))
		}
	}
	for _, l := range s.Mail.Listeners {
		if err := machine.Greeted(ctx, l, s.Mail.Closed); err != nil {
			return err
		}
	}
	return nil
}
