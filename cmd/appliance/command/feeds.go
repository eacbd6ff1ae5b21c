package command

import (
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/feed"
)

func (c *cli) feedsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "feeds [NAME]",
		Short: "show the feeds and the providers' networks, or what is in one",
		Long: `Show how the feeds of [feed] and the networks of [providers] are: how many are in force, of
when, and what is wrong. With a name, all of its networks are printed, one a line, as
weir ban - reads them: so the kernel can be given a whole feed, for a while.`,
		Example: `  weir lists feeds
  weir lists feeds drop | weir ban - --for 2d --why "Spamhaus DROP"`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := mailapi.NewClient(c.runDir)
			if len(args) == 1 {
				return m.Networks(cmd.Context(), args[0], func(p netip.Prefix) error {
					if c.json {
						return c.printJSON(map[string]netip.Prefix{"prefix": p})
					}
					c.say("%v", p)
					return nil
				})
			}
			s, err := m.Status(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"feeds": s.Feeds, "providers": s.Providers})
			}
			return c.printFeeds(s)
		},
	}
}

func (c *cli) printFeeds(s mailapi.Status) error {
	if len(s.Feeds)+len(s.Providers) == 0 {
		c.say("the file names no feed and spares no provider")
		return nil
	}
	t := newTable(c.out, "WHAT", "NAME", "NETWORKS", "OF", "STATE")
	for _, f := range s.Feeds {
		t.row("feed", f.Name, number(float64(f.Entries)), stampOrNever(f.Fetched), feedState(f))
	}
	for _, p := range s.Providers {
		t.row("provider", p.Name, number(float64(p.Networks)), stampOrNever(p.Looked), wellOrWhy(p.Why))
	}
	return t.flush()
}

// feedState is what is to be said of a feed.
func feedState(f feed.Status) string {
	switch {
	case f.Stale:
		return "STALE: " + printable(f.Why)
	case f.Why != "":
		return "the last good one: " + printable(f.Why)
	}
	return wellOrWhy(f.Odd)
}

func wellOrWhy(why string) string {
	if why == "" {
		return "well"
	}
	return printable(why)
}

func stampOrNever(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return stamp(t)
}

func (c *cli) fetchCommand() *cobra.Command {
	var q mailapi.FetchRequest
	cmd := &cobra.Command{
		Use:   "fetch NAME",
		Short: "look at a feed now",
		Long: `Look at a feed now, in place of when it is due. With --accept a list is taken that is empty,
or much longer or shorter than before: look at its source first.`,
		Example: `  weir lists fetch drop`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			s, err := mailapi.NewClient(c.runDir).Fetch(cmd.Context(), q)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			c.say("feed.%s has %s in force", s.Name, plural(s.Entries, "network"))
			if s.Odd != "" {
				c.warn([]string{s.Odd})
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&q.Accept, "accept", false, "take it though it is not what it was")
	return cmd
}
