package command

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/smtp/access"
	"mailweir/smtp/relay"
)

func (c *cli) allowCommand() *cobra.Command {
	var forgeable bool
	cmd := c.listCommand(access.Allow, "allow", "let somebody in", &forgeable)
	cmd.Flags().BoolVar(&forgeable, "forgeable", false, "a sender: also where SPF does not prove him, so that anybody can come in under his name")
	cmd.Aliases = []string{"whitelist", "whitehole"}
	cmd.Long = `Let somebody in, whatever the checks say. An address or prefix is let in by the kernel too: it
is never dropped and never banned, and bans that stand under it are lifted at once. By name:

  rdns:example.com        hosts with a confirmed name in the domain
  helo:mail.example.com   hosts that say so in HELO, where the name resolves to them
  jane@example.com        a sender; from:example.com: all of its domain; where SPF passes, since
                          anybody can write a name (--forgeable: also where SPF says nothing)

An address or prefix is taken out on trial: the kernel lets it in again after five minutes
unless weir confirm says that it was meant; the checks go on letting it in until then.

A domain means itself and all below it. Recipients have to exist all the same. The kernel
sees addresses only: what it drops, no name lets in (weir check warns of it).`
	cmd.Example = `  weir allow 198.51.100.0/24 --why "our branch office"
  weir allow rdns:example.org --for 30d --why "ticket 4711"
  weir allow news@example.org --to jane@example.com --why "she wants it"
  weir allow --remove 203.0.113.9`
	return cmd
}

func (c *cli) blockCommand() *cobra.Command {
	cmd := c.listCommand(access.Block, "block", "refuse somebody", new(bool))
	cmd.Aliases = []string{"blacklist"}
	cmd.Long = `Refuse somebody by address, prefix, rdns:, helo:, sender or sender domain, as weir allow has
them, or a recipient of ours (to:jane@example.com: 550 5.2.1, with --for 450 4.2.1). The sender
is told that he is blocked, and never by whom or why; weir ban drops without a word. A narrower
entry beats a wider one of its kind, one for a recipient beats one for all, and else it is let in.`
	cmd.Example = `  weir block 203.0.113.0/24 --why "spam, ticket 4712"
  weir block from:example.org --to example.com --why "their wish"
  weir block to:hall@example.com --for 7d --why "flooded"
  weir block --remove 203.0.113.0/24`
	return cmd
}

// listCommand is weir allow and weir block.
func (c *cli) listCommand(do access.Action, use, short string, forgeable *bool) *cobra.Command {
	var d guard.Duration
	var remove bool
	var terms guard.TrialTerms
	e := access.Entry{Action: do}
	cmd := &cobra.Command{
		Use: use + " WHO", Short: short, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if e.Subject, err = subject(args[0]); err == nil && e.To != "" {
				e.To, err = access.Name(e.To)
			}
			if err != nil {
				return control.Usagef("%v", err)
			}
			if remove {
				return c.unlist(cmd.Context(), e, terms)
			}
			if e.Why == "" {
				return control.Usagef(`an entry needs a reason that the next operator will understand: add --why "…"`)
			}
			if e.Forgeable = *forgeable; e.Forgeable && e.Subject.Kind != access.From {
				return control.Usagef("--forgeable is for senders: %v is none", e.Subject)
			}
			e.Author, e.Time = author(), c.now()
			return c.list(cmd.Context(), e, d)
		},
	}
	durationVar(cmd, &d, "for", "how long: 12h, 30d (default until it is removed)")
	cmd.Flags().StringVar(&e.To, "to", "", "only for a domain or a recipient of ours")
	cmd.Flags().StringVar(&e.Why, "why", "", "the reason, for the operators to come: required, but with --remove")
	cmd.Flags().BoolVar(&remove, "remove", false, "take the entry out again")
	if do == access.Allow {
		trialVars(cmd, &terms)
	}
	return cmd
}

// subject reads who is meant; an address as every command reads it.
func subject(s string) (access.Subject, error) {
	if _, ok := access.ParsePrefix(s); ok {
		p, err := parsePrefix(s)
		return access.Subject{Kind: access.Address, Prefix: p}, err
	}
	return access.ParseSubject(s)
}

// ofGuard says whether an entry is one for the kernel too.
func ofGuard(e access.Entry) bool {
	return e.Action == access.Allow && e.Subject.Kind == access.Address && e.To == ""
}

// list makes an entry: guard's where it has a part in it, then the mail role's.
func (c *cli) list(ctx context.Context, e access.Entry, d guard.Duration) error {
	if d > 0 {
		e.Until = e.Time.Add(time.Duration(d))
	}
	var ch guard.Change
	if ofGuard(e) {
		var err error
		if ch, err = guard.NewOperator(c.runDir).Allow(ctx, guard.AllowRequest{Prefix: e.Subject.Prefix, For: d, Why: e.Why, Author: e.Author}); err != nil {
			return err
		}
	}
	if _, err := mailapi.NewClient(c.runDir).AddEntries(ctx, []access.Entry{e}); err != nil {
		if !ofGuard(e) {
			return err
		}
		c.warn([]string{fmt.Sprintf("the kernel lets %v in, but the checks do not know of it: %v", e.Subject, err)})
	}
	if c.json && !ofGuard(e) {
		return c.printJSON(e)
	}
	c.say("%sed %v%s", e.Action, e.Subject, scopeOf(e))
	c.warn(forgeries(e))
	c.warn(c.unserved(ctx, e))
	return c.lifted(ch, nil)
}

// unserved is what an operator has to know of an entry for recipients to whom no
// mail comes: a slip of the hand, most often.
func (c *cli) unserved(ctx context.Context, e access.Entry) []string {
	to := e.To
	if e.Subject.Kind == access.To {
		to = e.Subject.Name
	}
	if to == "" {
		return nil
	}
	m, err := mailapi.NewClient(c.runDir).Status(ctx)
	if err != nil {
		return nil
	}
	domain := access.DomainOf(to)
	if slices.ContainsFunc(m.Domains, func(d relay.DomainStatus) bool { return d.Name == domain }) {
		return nil
	}
	return []string{fmt.Sprintf("no mail is taken for %s, so that the entry says nothing until there is a [domain.%q]", domain, domain)}
}

// forgeries is what an operator has to know of an entry that lets in by a sender.
func forgeries(e access.Entry) []string {
	switch {
	case e.Action != access.Allow || e.Subject.Kind != access.From:
		return nil
	case e.Forgeable:
		return []string{fmt.Sprintf("whoever writes %s as the sender comes in past all checks, unless SPF says fail: an rdns: entry, or SPF of that domain, is safer", e.Subject.Name)}
	}
	return []string{fmt.Sprintf("it counts where SPF passes for %s; if that domain has no SPF, allow its host by rdns:, or add --forgeable", access.DomainOf(e.Subject.Name))}
}

func scopeOf(e access.Entry) string {
	if e.To == "" {
		return ""
	}
	return " for " + e.To
}

// unlist takes an entry out, wherever it is. What is on trial in the kernel stays
// with the checks until it is confirmed.
func (c *cli) unlist(ctx context.Context, e access.Entry, terms guard.TrialTerms) error {
	var ch guard.Change
	var guardErr error
	if ofGuard(e) {
		terms.From = session()
		if ch, guardErr = guard.NewOperator(c.runDir).Disallow(ctx, e.Subject.Prefix, terms); ch.Trial == nil {
			if err := mailapi.NewClient(c.runDir).RemoveEntry(ctx, e); err == nil {
				guardErr = nil // an entry that guard never got
			}
		}
	} else {
		guardErr = mailapi.NewClient(c.runDir).RemoveEntry(ctx, e)
	}
	if guardErr != nil {
		return guardErr
	}
	if c.json {
		return c.printJSON(unlisted{e.Subject, ch.Trial})
	}
	c.say("%v is no longer %sed%s", e.Subject, e.Action, scopeOf(e))
	c.sayTrial(ch.Trial)
	return nil
}

// unlisted is what weir allow --remove and weir block --remove answer.
type unlisted struct {
	Removed access.Subject `json:"removed"`
	Trial   *guard.Trial   `json:"trial,omitempty"`
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
