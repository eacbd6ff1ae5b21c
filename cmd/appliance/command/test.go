package command

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

func (c *cli) testCommand() *cobra.Command {
	var q mailapi.TestRequest
	var from, mail string
	cmd := &cobra.Command{
		Use:   "test --from ADDR",
		Short: "say what would become of a connection, without one",
		Long: `Judge a connection that nobody made, by the code that live ones go through. Of a source that
is banned, or of a place that geo.drop names, it is said that the kernel drops it.
The recipient is really asked for at its backend; nothing is counted or recorded.
The exit status is 1 when it would be refused.`,
		Example: `  weir test --from 203.0.113.7
  weir test --from 203.0.113.7 --helo mail.example.org --mail a@example.org --rcpt jane@example.com`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := netip.ParseAddr(from)
			if err != nil {
				return control.Usagef("--from wants the address that the connection would come from, such as 203.0.113.7")
			}
			q.From = a.Unmap()
			if cmd.Flags().Changed("mail") {
				q.Mail = &mail
				if mail == "<>" {
					*q.Mail = ""
				}
			}
			d, err := mailapi.NewClient(c.runDir).Test(cmd.Context(), q)
			if err != nil {
				return err
			}
			return c.printDecision(d, c.kernelSays(cmd.Context(), &d, q.From))
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the client's address")
	cmd.Flags().StringVar(&q.HELO, "helo", "", "what it says in EHLO")
	cmd.Flags().StringVar(&mail, "mail", "", "the sender; <> is the null sender")
	cmd.Flags().StringVar(&q.Rcpt, "rcpt", "", "the recipient")
	return cmd
}

// kernelSays makes a decision that of the kernel where that drops the packets of
// a, so that the checks never see it, and returns what is to be said of it.
func (c *cli) kernelSays(ctx context.Context, d *mailapi.Decision, a netip.Addr) (says []string) {
	e, err := guard.NewOperator(c.runDir).Explain(ctx, a)
	if err != nil {
		return nil // weir status says that guard is away
	}
	if e.Banned {
		says = append(says, fmt.Sprintf("the kernel drops its packets, see weir why %v; without the ban it would be %s", a, d.Outcome))
		d.Outcome, d.Reason, d.Reply = smtp.Dropped, new(reply.Banned), nil
	}
	if o, err := mailapi.NewClient(c.runDir).Origin(ctx, a); err == nil && len(e.Allow) == 0 {
		for _, r := range o.Rules {
			if strings.HasPrefix(r, "geo.drop ") {
				says = append(says, r)
			}
		}
	}
	return says
}

func (c *cli) printDecision(d mailapi.Decision, says []string) error {
	refused := d.Outcome != "accepted"
	if c.json {
		if err := c.printJSON(d.Line); err != nil {
			return err
		}
	} else {
		t := newTable(c.out, "CHECK", "SAYS", "SCORE", "MS", "DETAIL")
		for _, k := range d.Checks {
			t.row(k.Name, string(k.Action), number(k.Score), number(k.Ms), k.Detail)
		}
		if err := t.flush(); err != nil {
			return err
		}
		c.say("it would be %s", d.Outcome)
		if d.Reply != nil && d.Reply.Code != 0 {
			c.say("  %s", printable(d.Reply.Line()))
		}
		for _, line := range says {
			c.say("  %s", printable(line))
		}
	}
	if refused {
		return errSaid
	}
	return nil
}
