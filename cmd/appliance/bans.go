package main

import (
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"mailweir/control"
	"mailweir/firewall/guard"
)

func (c *cli) bansCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bans [ADDR|PREFIX]",
		Short: "list who is banned, until when and why",
		Long: `List the bans that stand, or those that cover an address or lie in a prefix.
PACKETS are those that the kernel dropped of each. weir why ADDR tells more of one.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
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
}

func (c *cli) listBans(cmd *cobra.Command, within netip.Prefix) error {
	each := func(b guard.BanInfo) error { return c.printJSON(b) }
	t := newTable(c.out)
	n := 0
	if !c.json {
		each = func(b guard.BanInfo) error {
			if n++; n == 1 {
				t.row("PREFIX", "LEFT", "REASON", "STEP", "PACKETS", "REF", "WHY")
			}
			t.row(shortPrefix(b.Prefix), c.left(b), b.Reason.String(), strconv.Itoa(int(b.Step)),
				strconv.FormatUint(b.Packets, 10), b.Ref.String(), b.Why)
			return nil
		}
	}
	if err := guard.NewOperator(c.runDir).Bans(cmd.Context(), within, each); err != nil {
		return err
	}
	if n == 0 {
		c.say("nobody is banned")
	}
	return t.flush()
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
where # begins a comment. They are made in one transaction: when a line is wrong,
every wrong line is named and nobody is banned.`,
		Example: `  weir ban 203.0.113.7 --why "asked abuse@ twice"
  weir ban 2001:db8:66::/48 --for 7d --why "snowshoe"
  weir ban - <drop.txt`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := guard.NewOperator(c.runDir)
			if args[0] == "-" {
				return c.changed(op.BanText(cmd.Context(), c.in))("banned")
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
	cmd.Flags().StringVar(&r.Why, "why", "", "the reason, for the operators to come")
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
