package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"mailweir/control"
	"mailweir/disk"
	"mailweir/firewall/guard"
)

// maintenance is the operator's switch by which everyone hears 421 4.3.2 for a
// while (R-BW-E16). It outlives a restart, which is what it is often for, and
// ends by itself.
type maintenance struct {
	path string
	now  func() time.Time
	cur  atomic.Pointer[shut]
}

// shut is how the door is closed; the zero shut is open.
type shut struct {
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Text   string    `json:"text,omitempty"`
	Author string    `json:"author,omitempty"`
}

// openMaintenance reads how the door stood. What cannot be read leaves it open.
func openMaintenance(path string, now func() time.Time) (*maintenance, error) {
	m := &maintenance{path: path, now: now}
	var s shut
	err := disk.Restore(path, func(f io.Reader) error { return json.NewDecoder(f).Decode(&s) })
	if err != nil {
		s, err = shut{}, fmt.Errorf("the door is open, how it stood is forgotten: %w", err)
	}
	m.cur.Store(&s)
	return m, err
}

// set opens the door (the zero shut) or closes it.
func (m *maintenance) set(s shut) error {
	if !s.Until.IsZero() {
		s.Since = m.now()
	}
	if err := disk.Replace(m.path, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(s) }); err != nil {
		return fmt.Errorf("keep whether the door is closed: %w (nothing was changed)", err)
	}
	m.cur.Store(&s)
	return nil
}

// closed is how the door is, if it is closed now.
func (m *maintenance) closed() (shut, bool) {
	s := *m.cur.Load()
	return s, s.Until.After(m.now())
}

// text is what clients are told; "" while the door is open.
func (m *maintenance) text() string {
	s, closed := m.closed()
	if !closed {
		return ""
	}
	return strings.TrimPrefix(s.Text+", until ", ", ") + s.Until.UTC().Format("15:04 MST on 2 January")
}

// alarm stands as long as nobody gets in.
func (m *maintenance) alarm() string {
	s, closed := m.closed()
	if !closed {
		return ""
	}
	return fmt.Sprintf("the door is closed for maintenance since %s by %s, until %s: weir maintenance off opens it",
		stamp(s.Since), s.Author, stamp(s.Until))
}

// How long the door stays closed where nobody says, and at the most: senders
// give up after some days, the first of them after one.
const (
	maintenanceUsual = time.Hour
	maintenanceMost  = 24 * time.Hour
)

func (c *cli) maintenanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "close the door for a while: everyone hears 421 and comes again",
		Long: `Close the door for a while, or open it. While it is closed every new connection hears 421 4.3.2
with the text and the time at which it opens by itself; mail servers come again. Connections that
are there go on. It outlives a restart, and weir status shows it.`,
	}
	return group(cmd, c.closeCommand(), c.openCommand())
}

func (c *cli) closeCommand() *cobra.Command {
	var d guard.Duration
	cmd := &cobra.Command{
		Use: "on [TEXT]", Short: "close the door", Args: args(cobra.MaximumNArgs(1)),
		Example: `  weir maintenance on
  weir maintenance on --for 30m "moving to a new disk"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s := shut{Author: author(), Until: c.now().Add(cmp.Or(time.Duration(d), maintenanceUsual))}
			if time.Duration(d) > maintenanceMost {
				return control.Usagef("--for %v is longer than %v, after which the first senders give up: close the door again then", time.Duration(d), maintenanceMost)
			}
			if len(args) > 0 {
				s.Text = args[0]
			}
			if err := newMailClient(c.runDir).maintain(cmd.Context(), s); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			c.say("closed until %s", stamp(s.Until))
			return nil
		},
	}
	durationVar(cmd, &d, "for", "how long: 30m, 2h (default 1h, at most 24h)")
	return cmd
}

func (c *cli) openCommand() *cobra.Command {
	return &cobra.Command{
		Use: "off", Short: "open the door", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := newMailClient(c.runDir).maintain(cmd.Context(), shut{}); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(shut{})
			}
			c.say("open")
			return nil
		},
	}
}

func (m mailClient) maintain(ctx context.Context, s shut) error {
	return m.c.Do(ctx, http.MethodPost, "/maintenance", s, nil)
}
