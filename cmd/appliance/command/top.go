package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/firewall"
	"mailweir/firewall/guard"
)

func (c *cli) topCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "live: who is connected, who attacks and how near to a ban, what is dropped",
		Long: `Show who names unknown recipients, how fast, what share of its recipients is unknown and
how near it is to a conviction; who is connected; and what the kernel drops. On a terminal
the view is drawn again until Ctrl-C; else, and with --json, it is printed once.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			width, height, live := c.terminal()
			if c.json || !live {
				v, err := c.findTop(cmd.Context(), 50)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(v)
				}
				c.printTop(c.out, v, 0, 0)
				return nil
			}
			return c.watchTop(cmd.Context(), every, width, height)
		},
	}
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often the view is drawn again")
	return cmd
}

// terminal is the size of the screen that is written to; false: it is none.
func (c *cli) terminal() (width, height int, ok bool) {
	f, is := c.out.(*os.File)
	if !is || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 80, 24, true
	}
	return width, height, true
}

// watchTop draws the view until ctx ends.
func (c *cli) watchTop(ctx context.Context, every time.Duration, width, height int) error {
	tick := time.NewTicker(max(every, 200*time.Millisecond))
	defer tick.Stop()
	for {
		v, err := c.findTop(ctx, height)
		if err != nil {
			return err
		}
		fmt.Fprint(c.out, "\x1b[H\x1b[2J") // home, clear
		c.printTop(c.out, v, width, height)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w, h, ok := c.terminal(); ok { // it may have been resized
			width, height = w, h
		}
	}
}

// findTop asks both roles; guard away leaves its part out.
func (c *cli) findTop(ctx context.Context, most int) (mailapi.Top, error) {
	v, err := mailapi.NewClient(c.runDir).Top(ctx, most)
	if err != nil {
		return v, err
	}
	g, err := guard.NewOperator(c.runDir).Status(ctx)
	if err != nil {
		v.Alarms = append(v.Alarms, err.Error())
		return v, nil
	}
	v.Bans, v.Dropped = g.Bans, map[string]uint64{}
	for _, e := range g.Engines {
		dropped(v.Dropped, e.Engine, e.Counters)
		if v.Places == nil {
			v.Places = e.Places
		}
	}
	return v, nil
}

// dropCounters are those of an engine that count what it dropped; the others
// say what it let pass.
var dropCounters = []string{"malformed", "banned", "geo", "syn_limit", "flood"}

// dropped enters what an engine counted into what was dropped.
func dropped(into map[string]uint64, engine string, counters map[string]uint64) {
	for _, name := range dropCounters {
		if n := counters[name]; n > 0 {
			into[engine+" "+name] = n
		}
	}
}

// printTop writes the view into width and height; 0: without bounds.
func (c *cli) printTop(out io.Writer, v mailapi.Top, width, height int) {
	p := &page{out: out, width: width, left: height - 1}
	p.line("%s  %s, %s", stamp(v.Time), plural(v.Open, "connection"), plural(v.Bans, "ban"))
	p.flow("dropped  %s", counts(v.Dropped))
	if len(v.Places) > 0 {
		p.flow("came     %s", placesLine(v.Places))
	}
	for i, a := range v.Alarms {
		if height > 0 && i == mostAlarms {
			p.flow("ALARM    and %d more, see weir status", len(v.Alarms)-i)
			break
		}
		p.flow("ALARM    %s", a)
	}
	p.line("")
	w := len("SOURCE")
	for _, a := range v.Attackers {
		w = max(w, len(shortPrefix(a.Source)))
	}
	p.line("%-*s %7s %5s %5s %5s %4s  %-8s %s", w, "SOURCE", "UNKNOWN", "VALID", "SHARE", "/MIN", "NEAR", "RULE", "LAST GUESS")
	if len(v.Attackers) == 0 {
		p.line("nobody names unknown recipients")
	}
	for i, a := range v.Attackers {
		if height > 0 && p.left < 4 && i < len(v.Attackers)-1 {
			p.line("… and %d more", len(v.Attackers)-i)
			break
		}
		p.line("%-*s %7d %5d %4.0f%% %5.1f %3.0f%%  %-8s %s", w, shortPrefix(a.Source), a.Unknown, a.Valid, 100*a.Share, a.Rate, 100*a.Nearby, shortRule(a.Rule), printable(a.Guess))
	}
	p.line("")
	for _, s := range v.Sources {
		p.line("%-24s %s", shortPrefix(s.Source), plural(s.Open, "connection"))
	}
}

const (
	mostPlaces = 12 // that are named
	mostAlarms = 3  // on a screen, which is for the attackers
)

// placesLine names the places that most came from.
func placesLine(places map[string]firewall.Place) string {
	names := slices.SortedFunc(maps.Keys(places), func(a, b string) int {
		return cmp.Or(cmp.Compare(places[b].Seen, places[a].Seen), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range names[:min(len(names), mostPlaces)] {
		n := places[name]
		part := fmt.Sprintf("%s %d", cmp.Or(name, "nowhere"), n.Seen)
		if n.Denied > 0 {
			part += fmt.Sprintf(" (%d denied)", n.Denied)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// shortRule is a rule in the word that tells it from others: hour, day, shared,
// strikes. weir why has its name.
func shortRule(rule string) string {
	for _, before := range []string{"unknown_per_", "unknown_of_", "unknown_"} {
		rule = strings.TrimPrefix(rule, before)
	}
	rule, _, _ = strings.Cut(rule, "_")
	return rule
}

// page writes lines that fit on a screen.
type page struct {
	out         io.Writer
	width, left int
}

func (p *page) line(format string, args ...any) {
	if p.width > 0 && p.left <= 0 {
		return
	}
	p.left--
	text := []rune(printable(fmt.Sprintf(format, args...)))
	if p.width > 0 && len(text) > p.width {
		text = append(text[:p.width-1], '…')
	}
	fmt.Fprintln(p.out, string(text))
}

// flow writes a label and a text that takes a second line where one is too
// short, and is cut behind it.
func (p *page) flow(format string, args ...any) {
	lines := flowed(printable(fmt.Sprintf(format, args...)), p.width)
	if len(lines) > 2 {
		lines[1] += " …"
		lines = lines[:2]
	}
	for _, l := range lines {
		p.line("%s", l)
	}
}
