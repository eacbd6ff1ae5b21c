package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/record"
)

// whyAnswer is everything known of one subject.
type whyAnswer struct {
	Subject  string             `json:"subject"`
	Firewall *guard.Explanation `json:"firewall,omitempty"` // of an address
	record.Story
}

func (c *cli) whyCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "why ADDR|MAILBOX|REF",
		Short: "tell everything known of an address, a mailbox or a ref",
		Long: `Tell everything known of an address, a mailbox or the ref of a refusal: whether it is
banned, since when, until when, by what guesses, how many packets were dropped, what
would veto a ban, and what became of its last transactions. On a terminal it is as much
as fits on the screen; with --limit, and where it is piped, it is all.`,
		Example: `  weir why 203.0.113.7
  weir why K7QM-2V9D-4XTR
  weir why jane@example.com`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := c.findWhy(cmd.Context(), strings.TrimSpace(args[0]), limit)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(w)
			}
			if _, height, live := c.terminal(); live && !cmd.Flags().Changed("limit") {
				return c.onScreen(height, "weir why "+w.Subject+" | more", func(c *cli) error { return c.printWhy(w) })
			}
			return c.printWhy(w)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 5, "how many transactions to tell of")
	return cmd
}

// findWhy joins what guard knows (bans, by address) and what mail knows
// (evidence and records). One of them away is a warning, both an error.
func (c *cli) findWhy(ctx context.Context, subject string, limit int) (whyAnswer, error) {
	w := whyAnswer{Subject: subject}
	var mailErr, guardErr error
	w.Story, mailErr = mailapi.NewClient(c.runDir).Why(ctx, subject, limit)
	var refused *control.Error
	if errors.As(mailErr, &refused) && refused.Class == control.Usage {
		return w, mailErr
	}
	a, err := netip.ParseAddr(subject)
	if err != nil && len(w.Convictions) > 0 { // a ref: the address that it convicted
		a, err = w.Convictions[0].Peer, nil
	}
	if err == nil && a.IsValid() {
		var e guard.Explanation
		if e, guardErr = guard.NewOperator(c.runDir).Explain(ctx, a.Unmap()); guardErr == nil {
			w.Firewall = &e
		}
	}
	if mailErr != nil && (guardErr != nil || w.Firewall == nil) {
		return w, mailErr
	}
	for _, err := range []error{mailErr, guardErr} {
		if err != nil {
			c.warn([]string{err.Error()})
		}
	}
	return w, nil
}

func (c *cli) printWhy(w whyAnswer) error {
	if w.Firewall != nil {
		c.printExplanation(*w.Firewall)
	}
	for _, v := range w.Convictions {
		c.printConviction(v)
	}
	if len(w.Records) == 0 {
		c.flow("no transaction of %s is on record", printable(w.Subject))
		return nil
	}
	c.flow("last transactions, newest first:")
	for _, raw := range w.Records {
		var l record.Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		c.printRecord(l)
		c.printChecks(l)
	}
	return nil
}

func (c *cli) printExplanation(e guard.Explanation) {
	if !e.Banned {
		c.flow("%v is not banned", e.Address)
	}
	for _, b := range e.Bans {
		c.flow("%s is banned for %v", shortPrefix(b.Prefix), b.Reason)
		c.flow("  since    %s", stamp(b.Since))
		if b.Permanent {
			c.flow("  until    weir unban")
		} else {
			c.flow("  until    %s (%s left)", stamp(b.Until), c.left(b))
		}
		if b.Step > 0 {
			c.flow("  repeat   %d before", b.Step)
		}
		if b.Why != "" {
			c.flow("  why      %s", printable(b.Why))
		}
		if b.Ref != 0 {
			c.flow("  ref      %v", b.Ref)
		}
		c.flow("  dropped  %s", droppedBy(b))
	}
	for _, a := range e.Allow {
		c.flow("%s is allowed by %s: %s", shortPrefix(a.Prefix), a.Author, printable(a.Why))
	}
	for _, g := range e.Guards {
		c.flow("%s may not be banned: it is %s", shortPrefix(g.Prefix), printable(g.Guard))
	}
}

// droppedBy counts packets, with the share of each engine.
func droppedBy(b guard.BanInfo) string {
	var parts []string
	for _, h := range b.Hits {
		parts = append(parts, plural(h.Packets, "packet")+" by "+h.Engine)
	}
	if len(parts) == 0 {
		return plural(b.Packets, "packet")
	}
	return strings.Join(parts, ", ")
}

func (c *cli) printConviction(v record.Conviction) {
	verb := "was"
	if !v.Enforced {
		verb = "would have been"
	}
	c.flow("%v %s convicted by the rule %s", v.Peer, verb, v.Rule)
	c.flow("  when     %s", stamp(v.Time.Time))
	c.flow("  counted  %d unknown and %d valid recipients within %s", v.Unknown, v.Valid, windowOf(v))
	for i, g := range wrapped(v.Guesses, 80-11) {
		label := ""
		if i == 0 {
			label = "guessed"
		}
		c.flow("  %-8s %s", label, printable(g))
	}
}

// windowOf is the window of a rule as people say it: 1h, not 1h0m0s.
func windowOf(v record.Conviction) string {
	d, err := time.ParseDuration(v.Window)
	if err != nil {
		return v.Window
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// wrapped joins words to lines of at most width characters. A word that is
// longer than that is broken.
func wrapped(words []string, width int) (lines []string) {
	line := ""
	for _, w := range words {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width {
			lines, line = append(lines, line), ""
		}
		for r := []rune(w); len(r) > max(1, width); r = []rune(w) {
			lines, w = append(lines, string(r[:max(1, width)])), string(r[max(1, width):])
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// printChecks shows the verdicts in their order; those that came out alike for
// many recipients stand once.
func (c *cli) printChecks(l record.Line) {
	var rows strings.Builder
	t := newTable(&rows)
	for i := 0; i < len(l.Checks); {
		k, n, ms := l.Checks[i], 0, 0.0
		for ; i < len(l.Checks) && l.Checks[i].Name == k.Name && l.Checks[i].Action == k.Action && l.Checks[i].Score == k.Score; i++ {
			n, ms = n+1, ms+l.Checks[i].Ms
		}
		if n > 1 {
			k.Detail = fmt.Sprintf("%d times, first %s", n, k.Detail)
		}
		t.row("    check "+k.Name, string(k.Action), number(k.Score), number(ms)+" ms", k.Detail)
	}
	t.flush()
	for row := range strings.Lines(rows.String()) {
		c.flow("%s", strings.TrimSuffix(row, "\n"))
	}
}
