package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mailweir/firewall/guard"
	"mailweir/smtp/greylist"
)

func (c *cli) listsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lists",
		Short: "show the entries of weir allow",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := guard.NewOperator(c.runDir).AllowList(cmd.Context())
			if err != nil {
				return err
			}
			if len(list) == 0 {
				c.say("the lists are empty")
				return nil
			}
			return c.printAllow(list)
		},
	}
	cmd.AddCommand(c.returnsCommand())
	return cmd
}

func (c *cli) returnsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "returns",
		Short: "show which mail servers never come back when they are greylisted",
		Long: `Show how many of ten thousand mail servers never come back, and those of
which three different mails were put off in vain. Counted are pools
that have a name of their own or pass SPF: hardly anything else is a mail server.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := newMailClient(c.runDir).returns(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(r)
			}
			return c.printReturns(r)
		},
	}
}

func (c *cli) printReturns(r greylist.Report) error {
	c.say("%d of %s never came back: %.0f per 10,000", r.Never, plural(r.Pools, "mail server"), r.PerTenThou)
	if len(r.Lost) == 0 {
		return nil
	}
	t := newTable(c.out, "MAILS", "LAST", "SENDER", "POOL")
	for _, l := range r.Lost {
		t.row(fmt.Sprint(l.Mails), stamp(l.Last), l.Sender, l.Pool)
	}
	return t.flush()
}
