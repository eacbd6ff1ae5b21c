package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/ref"
)

func (c *cli) complainCommand() *cobra.Command {
	var message string
	var refs []string
	q := mailapi.Complaint{}
	cmd := &cobra.Command{
		Use:   "complain ADDR…",
		Short: "take in a recipient's complaint about mail from an address",
		Long: `Take in a complaint of a recipient about a message from an address. It counts only when it
is proven: the message, or the id in the Received header that this machine gave it, must be
one that was accepted from that address for the reporter. Each reporter counts once; at
harvest.complaints of them within a week the source is banned when it comes again.
Reports that come by mail are read at harvest.complaint_mailbox.`,
		Example: `  weir complain 203.0.113.7 --ref K7QM-2V9D-4XTR --reporter jane@example.com
  weir complain 203.0.113.7 --message report.eml
  weir complain 203.0.113.7 --ref K7QM-2V9D-4XTR --retract`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range refs {
				r, err := ref.Parse(s)
				if err != nil {
					return control.Usagef("%q is %v", s, err)
				}
				q.Refs = append(q.Refs, r)
			}
			if message != "" {
				found, err := c.refsIn(message)
				if err != nil {
					return err
				}
				q.Refs = append(q.Refs, found...)
			}
			if len(q.Refs) == 0 {
				return control.Usagef("a complaint counts only when it is proven: give the message with --message FILE, or the id in our Received header with --ref")
			}
			return c.complain(cmd.Context(), q, args)
		},
	}
	cmd.Flags().StringArrayVar(&refs, "ref", nil, "the id that our Received header gave the message")
	cmd.Flags().StringVar(&message, "message", "", "a file with the message, or with a report (RFC 5965) that has it inside; - is standard input")
	cmd.Flags().StringVar(&q.Reporter, "reporter", "", "the recipient who complains; not needed where the message had but one")
	cmd.Flags().BoolVar(&q.Retract, "retract", false, "take the complaint back")
	return cmd
}

func (c *cli) complain(ctx context.Context, q mailapi.Complaint, addrs []string) error {
	for _, s := range addrs {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return control.Usagef("%q is no address", s)
		}
		q.Addr = a.Unmap()
		done, err := mailapi.NewClient(c.runDir).Complain(ctx, q)
		if err != nil {
			return err
		}
		if c.json {
			if err := c.printJSON(done); err != nil {
				return err
			}
			continue
		}
		c.say("%v", done)
	}
	return nil
}

// mostMessage bounds what of a message is looked at: headers, or a report with
// headers inside.
const mostMessage = 1 << 20

// idOfReceived is the id clause that smtp's trace field has, also where a
// mailer quoted or indented the message.
var idOfReceived = regexp.MustCompile(`(?m)^[>\s]+id ([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\b`)

// refsIn reads the refs in the trace fields of a message, each once.
func (c *cli) refsIn(name string) (refs []ref.Ref, err error) {
	in, err := c.input("message", name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, mostMessage))
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	for _, m := range idOfReceived.FindAllSubmatch(b, -1) {
		if r, err := ref.Parse(string(m[1])); err == nil && !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	if len(refs) == 0 {
		return nil, control.Usagef("%s has no Received header of this machine: a complaint needs the whole message with its headers", name)
	}
	return refs, nil
}
