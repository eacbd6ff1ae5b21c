package command

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/smtp/reply"
)

func (c *cli) recordsCommand() *cobra.Command {
	q := mailapi.RecordsRequest{Limit: 100}
	var since guard.Duration
	var addr string
	var would bool
	cmd := &cobra.Command{
		Use:   "records",
		Short: "search what became of each transaction, newest first",
		Long: `Print the records of transactions, newest first. All conditions must fit.
With --json each line is a record as weir replay reads it.

With --would: what was let through because observe = true, for all or for a domain, or because
a check is set to log: by check and domain, how often, and whether good senders are among it.`,
		Example: `  weir records --would --since 7d
  weir records --since 1h --reason harvest
  weir records --sender '<>' --rcpt jane@example.com
  weir records --addr 203.0.113.0/24 --limit 0 --json >case.jsonl`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.Limit < 0 {
				return control.Usagef("--limit is how many at the most, and not %d; 0: all", q.Limit)
			}
			if since > 0 {
				q.Since = c.now().Add(-since.Time())
			}
			if would {
				if since == 0 {
					q.Since = c.now().Add(-7 * 24 * time.Hour)
				}
				return c.listWouldRefuse(cmd, q.Since)
			}
			if addr != "" {
				var err error
				if q.Addr, err = parsePrefix(addr); err != nil {
					return err
				}
			}
			return c.listRecords(cmd, q)
		},
	}
	durationVar(cmd, &since, "since", "only the last 30m, 12h, 7d")
	cmd.Flags().BoolVar(&would, "would", false, "what would have been refused while observing (default of --since: 7d)")
	cmd.Flags().StringVar(&q.Reason, "reason", "", "such as harvest: of the transaction, of a recipient, or of what observe, or a check set to log, let through")
	cmd.Flags().StringVar(&q.Sender, "sender", "", "MAIL FROM; <> is the null sender")
	cmd.Flags().StringVar(&q.Rcpt, "rcpt", "", "one of the recipients")
	cmd.Flags().StringVar(&addr, "addr", "", "the peer's address, or a prefix")
	cmd.Flags().IntVar(&q.Limit, "limit", q.Limit, "how many at the most; 0: all")
	return cmd
}

func (c *cli) listRecords(cmd *cobra.Command, q mailapi.RecordsRequest) error {
	n := 0
	err := mailapi.NewClient(c.runDir).Records(cmd.Context(), q, func(raw json.RawMessage) error {
		n++
		if c.json {
			_, err := fmt.Fprintf(jsonOut{c.out}, "%s\n", raw)
			return err
		}
		var l record.Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		c.printRecord(l)
		return nil
	})
	if err == nil && n == 0 {
		c.say("no record fits")
		if known := func(r reply.Row) bool { return string(r.Reason) == q.Reason }; q.Reason != "" && !slices.ContainsFunc(reply.Table(), known) {
			c.warn([]string{fmt.Sprintf("%q is no reason that this release knows: docs/refusals.md has them all", q.Reason)})
		}
	}
	return err
}

// mostRcpts is how many recipients of a record people want to read.
const mostRcpts = 5

// printRecord writes a record as a head line and a line a recipient.
func (c *cli) printRecord(l record.Line) {
	from := ""
	if l.MailFrom != nil {
		from = " from <" + *l.MailFrom + ">"
	}
	what := string(l.Outcome)
	if l.Reason != nil && *l.Reason != "" {
		what += " (" + string(*l.Reason) + ")"
	}
	c.flow("%s  %s  %s  %s%s", stamp(l.Time.Time), l.Ref, l.Peer, what, printable(from))
	if told := l.OnlyTold(); len(told) > 0 {
		c.flow("    not refused for it: %s", printable(strings.Join(told, ", ")))
	}
	for i, r := range l.Rcpts {
		if i == mostRcpts {
			c.flow("    and %s (--json shows all)", plural(len(l.Rcpts)-i, "recipient"))
			break
		}
		answer := ""
		if r.Reply != nil {
			answer = r.Reply.Line()
		}
		c.flow("    to <%s>: %s", printable(r.To), printable(answer))
	}
	if l.BackendReply != "" {
		c.flow("    %s said: %s", l.Backend, printable(strings.TrimPrefix(strings.TrimSpace(l.BackendReply), l.Backend+": ")))
	}
}
