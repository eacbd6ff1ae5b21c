package command

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/record"
)

// listWouldRefuse prints it.
func (c *cli) listWouldRefuse(cmd *cobra.Command, since time.Time) error {
	t, n, good := newTable(c.out), 0, 0
	err := mailapi.NewClient(c.runDir).WouldRefuse(cmd.Context(), since, func(w record.WouldRefuse) error {
		n, good = n+1, good+w.Good
		if c.json {
			return c.printJSON(w)
		}
		if n == 1 {
			t.row("CHECK", "DOMAIN", "REFUSED", "PUT OFF", "LOGGED", "SOURCES", "KNOWN GOOD", "LAST", "FROM", "REF")
		}
		from := w.Peer.String()
		if w.Sender != nil {
			from += " <" + *w.Sender + ">"
		}
		t.row(w.Check, w.Domain, strconv.Itoa(w.Refused), strconv.Itoa(w.Later), strconv.Itoa(w.Logged), strconv.Itoa(w.Sources),
			strconv.Itoa(w.Good), stamp(w.Last.Time), printable(from), w.Ref)
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.flush(); err != nil || c.json {
		return err
	}
	switch {
	case n == 0:
		c.say("nothing would have been refused that was not")
	case good > 0:
		c.say("mail of sources that are known to be good is among it (%d times): see weir why REF, and weir allow", good)
	default:
		c.say("none of it came from a source that is known to be good")
	}
	return nil
}
