package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
)

func (c *cli) listsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lists",
		Short: "show the entries of weir allow and weir block",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.entries(cmd.Context())
			if err != nil {
				return err
			}
			return c.printEntries(all)
		},
	}
	cmd.AddCommand(c.importCommand(), c.exportCommand(), c.returnsCommand(), c.feedsCommand(), c.fetchCommand())
	return cmd
}

// entries are those of guard and of the mail role; one that both have, once. One
// of the two may be away, which is a warning.
func (c *cli) entries(ctx context.Context) ([]access.Entry, error) {
	all, mailErr := mailapi.NewClient(c.runDir).Entries(ctx)
	kernel, guardErr := guard.NewOperator(c.runDir).AllowList(ctx)
	if mailErr != nil && guardErr != nil {
		return nil, guardErr
	}
	for _, err := range []error{mailErr, guardErr} {
		if err != nil {
			c.warn([]string{err.Error()})
		}
	}
	for _, k := range kernel {
		e := access.Entry{
			Action: access.Allow, Subject: access.Subject{Kind: access.Address, Prefix: k.Prefix},
			Time: k.Time, Until: k.Until, Author: k.Author, Why: k.Why,
		}
		if !slices.ContainsFunc(all, func(m access.Entry) bool { return ofGuard(m) && m.Subject == e.Subject }) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b access.Entry) int {
		if a.Subject.Kind == access.Address && b.Subject.Kind == access.Address {
			return a.Subject.Prefix.Compare(b.Subject.Prefix)
		}
		return strings.Compare(string(a.Subject.Kind)+a.Subject.Name, string(b.Subject.Kind)+b.Subject.Name)
	})
	return all, nil
}

// listEntry is an entry as JSON has it: a prefix stands there as such, too.
type listEntry struct {
	access.Entry
	Prefix netip.Prefix `json:"prefix,omitzero"`
}

func (c *cli) printEntries(all []access.Entry) error {
	if len(all) == 0 {
		c.say("the lists are empty")
		return nil
	}
	t := newTable(c.out)
	for i, e := range all {
		if c.json {
			if err := c.printJSON(listEntry{e, e.Subject.Prefix}); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			t.row("LIST", "WHO", "FOR", "LEFT", "SINCE", "BY", "WHY")
		}
		left, to := "until removed", "all"
		if !e.Until.IsZero() {
			left = span(e.Until.Sub(c.now()))
		}
		if e.To != "" {
			to = e.To
		}
		t.row(string(e.Action), e.Subject.String(), to, left, e.Time.Local().Format("2006-01-02"), e.Author, e.Why)
	}
	return t.flush()
}

func (c *cli) importCommand() *cobra.Command {
	var as, of, to, why string
	var d guard.Duration
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "read entries from a file: ours, Postfix maps, plain lists",
		Long: `Read entries from a file (- is standard input): as weir lists export writes them, from maps of
Postfix (cidr_table(5), and access(5) for clients, HELO, senders or recipients), or a plain list,
one a line, with --as. All of them are taken, or, when one line cannot be understood or has no
reason, none.`,
		Example: `  weir lists import /etc/postfix/client_access --why "from the old server"
  weir lists import /etc/postfix/sender_access --of from --why "from the old server"
  weir lists import bad-hosts.txt --as block --for 30d --why "list of a friend"`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			how := access.Import{Of: access.Kind(of), As: access.Action(alias(as)), Why: why, Reasons: true}
			if !slices.Contains([]access.Kind{"", access.RDNS, access.HELO, access.From, access.To}, how.Of) ||
				!slices.Contains([]access.Action{"", access.Allow, access.Block}, how.As) {
				return control.Usagef("--of is rdns, helo, from or to; --as is allow or block")
			}
			entries, err := c.readEntries(args[0], how)
			if err != nil {
				return err
			}
			for i := range entries {
				if err := c.fill(&entries[i], to, d); err != nil {
					return err
				}
			}
			return c.importEntries(cmd.Context(), entries)
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "what lines do that name somebody and nothing else: allow or block")
	cmd.Flags().StringVar(&of, "of", "", "what names in the map are: rdns (default), helo, from or to")
	cmd.Flags().StringVar(&to, "to", "", "only for a domain or a recipient of ours")
	cmd.Flags().StringVar(&why, "why", "", "the reason of lines that have none: required where there is one")
	durationVar(cmd, &d, "for", "how long, where a line does not say (default until they are removed)")
	return cmd
}

// alias is the word of ours for one that others use.
func alias(word string) string {
	switch word {
	case "whitelist", "whitehole":
		return string(access.Allow)
	case "blacklist":
		return string(access.Block)
	}
	return word
}

// readEntries reads a file; each line that cannot be understood is told.
func (c *cli) readEntries(name string, how access.Import) ([]access.Entry, error) {
	in := c.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, control.Usagef("open the list: %v", err)
		}
		defer f.Close()
		in = f
	}
	entries, errs := how.Read(in)
	if len(errs) > 0 {
		return nil, control.Refusef("nothing was imported from %s:\n%v", name, errors.Join(errs...))
	}
	return entries, nil
}

// fill gives an entry what its line does not say.
func (c *cli) fill(e *access.Entry, to string, d guard.Duration) (err error) {
	if e.Author == "" {
		e.Author = author()
	}
	if e.Time.IsZero() {
		e.Time = c.now()
	}
	if e.Until.IsZero() && d > 0 {
		e.Until = c.now().Add(time.Duration(d))
	}
	if e.To == "" && to != "" {
		e.To, err = access.Name(to)
	}
	return err
}

// importEntries hands entries to the mail role, all at once, and tells guard of
// those that are for the kernel.
func (c *cli) importEntries(ctx context.Context, entries []access.Entry) error {
	got, err := mailapi.NewClient(c.runDir).AddEntries(ctx, entries)
	if err != nil {
		return err
	}
	op := guard.NewOperator(c.runDir)
	for _, e := range entries {
		if !ofGuard(e) {
			continue
		}
		r := guard.AllowRequest{Prefix: e.Subject.Prefix, Why: e.Why, Author: e.Author}
		if !e.Until.IsZero() {
			r.For = guard.Duration(e.Until.Sub(c.now()))
		}
		if _, err := op.Allow(ctx, r); err != nil {
			return fmt.Errorf("the checks let all of them in; the kernel does not let in %v and those behind it: %w", e.Subject, err)
		}
	}
	if c.json {
		return c.printJSON(got)
	}
	c.say("imported %d", got.Added)
	if n := len(slices.DeleteFunc(entries, func(e access.Entry) bool {
		return e.Action != access.Allow || e.Subject.Kind != access.From || e.Forgeable
	})); n > 0 {
		c.warn([]string{fmt.Sprintf("%d of them let in by the sender, and count where SPF passes for him: see weir allow --forgeable", n)})
	}
	return nil
}

func (c *cli) exportCommand() *cobra.Command {
	var postfix string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "write the entries as a file that weir lists import reads",
		Long: `Write the entries to standard output, with their times, authors and reasons; or with --postfix
those of one kind that are for everybody, as a map of Postfix: addr as cidr_table(5), the others
as access(5).`,
		Example: `  weir lists export > lists.txt
  weir lists export --postfix addr > client.cidr`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind := access.Kind(postfix)
			if !slices.Contains([]access.Kind{"", access.Address, access.RDNS, access.HELO, access.From, access.To}, kind) {
				return control.Usagef("--postfix is addr, rdns, helo, from or to")
			}
			all, err := c.entries(cmd.Context())
			if err != nil {
				return err
			}
			if kind != "" {
				return access.WritePostfix(c.out, all, kind)
			}
			return access.Write(c.out, all)
		},
	}
	cmd.Flags().StringVar(&postfix, "postfix", "", "as a map of Postfix of this kind: addr, rdns, helo, from or to")
	return cmd
}

func (c *cli) returnsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "returns",
		Short: "show which mail servers never come back when they are greylisted",
		Long: `Show how many of ten thousand mail servers never come back, and those of which three different
mails were put off in vain, each with the command that lets it in. Counted are pools that have a
name of their own or pass SPF: hardly anything else is a mail server.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := mailapi.NewClient(c.runDir).Returns(cmd.Context())
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
	t := newTable(c.out, "MAILS", "LAST", "SENDER", "LET IT IN")
	for _, l := range r.Lost {
		t.row(fmt.Sprint(l.Mails), stamp(l.Last), l.Sender, letIn(l.Pool))
	}
	return t.flush()
}

// letIn is the command that lets a pool in.
func letIn(pool string) string {
	kind, domain, _ := strings.Cut(pool, ":")
	if kind == "name" {
		kind = "rdns"
	} else {
		kind = "from"
	}
	return fmt.Sprintf("weir allow %s:%s --why \"never retries\"", kind, domain)
}
