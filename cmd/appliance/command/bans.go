package command

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/ref"
)

func (c *cli) bansCommand() *cobra.Command {
	would := false
	since := guard.Duration(7 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use:   "bans [ADDR|PREFIX]",
		Short: "list who is banned, until when and why",
		Long: `List the bans that stand, or those that cover an address or lie in a prefix.
PACKETS are those that the kernel dropped of each. weir why ADDR tells more of one.

With --would: who would have been banned while observe = true, by what, and how much mail
of each was accepted in that time. Look at those that are marked before you end it.`,
		Example: `  weir bans
  weir bans 203.0.113.0/24 --json
  weir bans --would --since 30d`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if would {
				if len(args) > 0 {
					return control.Usagef("--would lists all sources: leave %s out, or see weir why %[1]s", args[0])
				}
				return c.listWould(cmd.Context(), c.now().Add(-since.Time()))
			}
			var within netip.Prefix
			if len(args) == 1 {
				var err error
				if within, err = parsePrefix(args[0]); err != nil {
					return err
				}
			}
			return c.listBans(cmd, within)
		},
	}
	cmd.Flags().BoolVar(&would, "would", false, "who would have been banned while observing")
	durationVar(cmd, &since, "since", "with --would: only the last 12h, 7d (default 7d)")
	return cmd
}

// banned is a ban as weir bans shows it: what guard knows of it, and the
// evidence that mail keeps under its ref.
type banned struct {
	guard.BanInfo
	Evidence *record.Conviction `json:"evidence,omitempty"`
}

// banBatch is how many bans are joined with their evidence at once: the list
// may have a million, and none of it is held in memory.
const banBatch = 512

// banLister prints bans in batches.
type banLister struct {
	*cli
	ctx   context.Context
	batch []banned
	table *table
	n     int
	away  error // why there is no evidence
}

func (c *cli) listBans(cmd *cobra.Command, within netip.Prefix) error {
	l := &banLister{cli: c, ctx: cmd.Context(), table: newTable(c.out)}
	err := guard.NewOperator(c.runDir).Bans(cmd.Context(), within, func(b guard.BanInfo) error {
		l.batch = append(l.batch, banned{BanInfo: b})
		if len(l.batch) < banBatch {
			return nil
		}
		return l.print()
	})
	if err == nil {
		err = l.print()
	}
	if err != nil {
		return err
	}
	if l.n == 0 {
		c.say("nobody is banned")
	}
	if l.away != nil {
		c.warn([]string{"the evidence is not shown: " + l.away.Error()})
	}
	return nil
}

// print shows a batch. Bans are guard's to tell: that mail is away takes no
// more than the evidence from them.
func (l *banLister) print() error {
	if err := l.join(); err != nil {
		l.away = err
	}
	for _, b := range l.batch {
		if l.n++; l.json {
			if err := l.printJSON(b); err != nil {
				return err
			}
			continue
		}
		if l.n == 1 {
			l.table.row("PREFIX", "LEFT", "REASON", "STEP", "PACKETS", "REF", "WHY")
		}
		shownRef := b.Ref.String()
		if b.Ref == 0 {
			shownRef = "-"
		}
		l.table.row(shortPrefix(b.Prefix), l.left(b.BanInfo), b.Reason.String(), strconv.Itoa(int(b.Step)),
			strconv.FormatUint(b.Packets, 10), shownRef, b.why())
	}
	l.batch = l.batch[:0]
	return l.table.flush()
}

func (l *banLister) join() error {
	var refs []ref.Ref
	for _, b := range l.batch {
		if b.Ref != 0 {
			refs = append(refs, b.Ref)
		}
	}
	if len(refs) == 0 || l.away != nil {
		return l.away
	}
	return mailapi.NewClient(l.runDir).Evidence(l.ctx, refs, func(v record.Conviction) error {
		for i := range l.batch {
			if l.batch[i].Ref == v.Ref {
				l.batch[i].Evidence = &v
			}
		}
		return nil
	})
}

// why is the operator's words, else the evidence in short.
func (b banned) why() string {
	if b.Why != "" || b.Evidence == nil {
		return b.Why
	}
	return fmt.Sprintf("%d unknown, %d valid", b.Evidence.Unknown, b.Evidence.Valid)
}

// left is how long a ban goes on.
func (c *cli) left(b guard.BanInfo) string {
	if b.Permanent {
		return "forever"
	}
	return span(b.Until.Sub(c.now()))
}

// shortPrefix leaves the length out where it is a single address.
func shortPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func (c *cli) banCommand() *cobra.Command {
	var r guard.BanRequest
	cmd := &cobra.Command{
		Use:   "ban PREFIX | -",
		Short: "drop an address or prefix in the kernel",
		Long: `Drop all packets of an address or prefix to the protected ports.

With - the bans are read from standard input, a line each: PREFIX [DURATION] [WHY],
where # begins a comment. --for and --why are for lines that do not say so themselves.
They are made in one transaction: when a line is wrong, every wrong line is named and
nobody is banned.

A short prefix (IPv4 /16 or shorter, IPv6 /32 or shorter) is banned on trial: it is
lifted after five minutes unless weir confirm says that it was meant. The address from
which you work here by SSH is never banned.`,
		Example: `  weir ban 203.0.113.7 --why "asked abuse@ twice"
  weir ban 2001:db8:66::/48 --for 7d --why "snowshoe"
  weir ban - --for 7d --why "Spamhaus DROP" <drop.txt`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := guard.NewOperator(c.runDir)
			r.From = session()
			if args[0] == "-" {
				return c.changed(op.BanText(cmd.Context(), c.in, r))("banned")
			}
			if r.Why == "" {
				return control.Usagef(`a ban needs a reason that the next operator will understand: add --why "…"`)
			}
			var err error
			if r.Prefix, err = parsePrefix(args[0]); err != nil {
				return err
			}
			return c.changed(op.Ban(cmd.Context(), r))("banned")
		},
	}
	durationVar(cmd, &r.For, "for", "how long: 90m, 48h, 7d, forever (default firewall.ban_ttl)")
	cmd.Flags().StringVar(&r.Why, "why", "", "the reason, for the operators to come: required, but with -")
	trialVars(cmd, &r.TrialTerms)
	return cmd
}

func (c *cli) unbanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unban ADDR|PREFIX",
		Short: "lift a ban, now, and forget it",
		Long: `Lift the ban of an address or prefix, the bans that lie in it, and automatic bans
that cover it. They are forgotten: a next offence is a first one.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePrefix(args[0])
			if err != nil {
				return err
			}
			return c.changed(guard.NewOperator(c.runDir).Unban(cmd.Context(), p))("unbanned")
		},
	}
}

// changed prints what a verb did: first its answer, then the word for it.
func (c *cli) changed(ch guard.Change, err error) func(did string) error {
	return func(did string) error {
		if err != nil {
			return err
		}
		c.warn(ch.Warnings)
		if c.json {
			return c.printJSON(ch)
		}
		for _, b := range ch.Bans {
			c.say("%s %s for %s", did, shortPrefix(b.Prefix), c.left(b))
		}
		c.sayTrial(ch.Trial)
		for _, b := range ch.Lifted {
			c.say("lifted the ban of %s (%v, %d packets dropped)", shortPrefix(b.Prefix), b.Reason, b.Packets)
		}
		if listed := len(ch.Bans) + len(ch.Lifted); listed == 0 {
			c.say("%s: %d", did, ch.Count)
		}
		return nil
	}
}

// parsePrefix reads an address or a prefix as people write it. Host bits that
// are set are an error: who writes 192.0.2.7/24 may mean either.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, control.Usagef("%q is no address or prefix: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48", s)
	case p != p.Masked():
		return p, control.Usagef("%q has bits set behind its length: write %v for the whole prefix or %v for the one address", s, p.Masked(), p.Addr())
	}
	return p, nil
}

// durationVar defines a flag for a guard.Duration.
func durationVar(cmd *cobra.Command, d *guard.Duration, name, usage string) {
	cmd.Flags().Func(name, usage, func(s string) (err error) {
		*d, err = guard.ParseDuration(s)
		return err
	})
}
