package main

import (
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"mailweir/control"
	"mailweir/firewall/guard"
)

func (c *cli) allowCommand() *cobra.Command {
	var r guard.AllowRequest
	var remove bool
	cmd := &cobra.Command{
		Use:     "allow ADDR|PREFIX",
		Aliases: []string{"whitelist"},
		Short:   "let an address or prefix in, whatever it does",
		Long: `Let an address or prefix in, whatever it does: the kernel never drops it, it is
never banned, and bans that stand under it are lifted at once.`,
		Example: `  weir allow 198.51.100.0/24 --why "our branch office"
  weir allow 203.0.113.9 --for 30d --why "ticket 4711"
  weir allow --remove 203.0.113.9`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if r.Prefix, err = parsePrefix(args[0]); err != nil {
				return err
			}
			op := guard.NewOperator(c.runDir)
			if remove {
				return c.disallow(cmd, op, r)
			}
			if r.Why == "" {
				return control.Usagef(`an entry needs a reason that the next operator will understand: add --why "…"`)
			}
			r.Author = author()
			ch, err := op.Allow(cmd.Context(), r)
			if err == nil {
				c.say("allowed %s", shortPrefix(r.Prefix))
			}
			return c.lifted(ch, err)
		},
	}
	durationVar(cmd, &r.For, "for", "how long: 12h, 30d (default until it is removed)")
	cmd.Flags().StringVar(&r.Why, "why", "", "the reason, for the operators to come")
	cmd.Flags().BoolVar(&remove, "remove", false, "take the entry out again")
	return cmd
}

func (c *cli) disallow(cmd *cobra.Command, op *guard.Operator, r guard.AllowRequest) error {
	if err := op.Disallow(cmd.Context(), r.Prefix); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]any{"removed": r.Prefix})
	}
	c.say("%s is no longer allowed", shortPrefix(r.Prefix))
	return nil
}

// lifted prints the bans that an allow entry ended.
func (c *cli) lifted(ch guard.Change, err error) error {
	if err != nil {
		return err
	}
	c.warn(ch.Warnings)
	if c.json {
		return c.printJSON(ch)
	}
	for _, b := range ch.Lifted {
		c.say("lifted the ban of %s (%v, %d packets dropped)", shortPrefix(b.Prefix), b.Reason, b.Packets)
	}
	return nil
}

func (c *cli) printAllow(list []guard.AllowEntry) error {
	t := newTable(c.out)
	for i, e := range list {
		if c.json {
			if err := c.printJSON(e); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			t.row("ALLOW", "LEFT", "SINCE", "BY", "WHY")
		}
		left := "until removed"
		if !e.Until.IsZero() {
			left = span(e.Until.Sub(c.now()))
		}
		t.row(shortPrefix(e.Prefix), left, e.Time.Local().Format("2006-01-02"), e.Author, e.Why)
	}
	return t.flush()
}

// author is who made an entry: the person behind sudo, else the user.
func author() string {
	if s := os.Getenv("SUDO_USER"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}
