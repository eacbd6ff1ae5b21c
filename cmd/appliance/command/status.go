package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/process"
	"mailweir/control"
	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/record/syslog"
	"mailweir/smtp"
	"mailweir/smtp/relay"
)

// wholeStatus is what weir status prints. A part that does not answer is nil,
// and Problems says so.
type wholeStatus struct {
	Roles    []process.RoleState `json:"roles,omitempty"`
	Guard    *guard.Status       `json:"guard,omitempty"`
	Mail     *mailapi.Status     `json:"mail,omitempty"`
	GeoHits  []mailapi.GeoHit    `json:"geo_hits,omitempty"` // senders known to be good that rules of [geo] keep out
	Problems []string            `json:"problems"`
}

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "one screen: is all well?",
		Long:  "Show roles, firewall, listeners, backends and alarms. The exit status is 1 when something is wrong.",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.findStatus(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(s)
			} else {
				c.printStatus(s)
			}
			if err == nil && len(s.Problems) > 0 {
				err = errSaid
			}
			return err
		},
	}
}

func (c *cli) findStatus(ctx context.Context) (wholeStatus, error) {
	s := wholeStatus{Problems: []string{}}
	if err := control.NewClient(process.Socket(c.runDir), "run").Do(ctx, http.MethodGet, "/roles", nil, &s.Roles); err != nil {
		s.Roles = nil // a service manager may run the roles in its place
	}
	g, guardErr := guard.NewOperator(c.runDir).Status(ctx)
	m, mailErr := mailapi.NewClient(c.runDir).Status(ctx)
	if errors.Is(guardErr, control.ErrNotRunning) && errors.Is(mailErr, control.ErrNotRunning) && s.Roles == nil {
		return s, &control.Error{Class: control.NotRunning, Message: fmt.Sprintf(
			"nothing is running in %s (start it with `weir run`, or name the right --run-dir)", c.runDir)}
	}
	if guardErr != nil {
		s.Problems = append(s.Problems, roleAway(guardErr, "guard", s.Roles))
	} else {
		s.Guard = &g
		s.Problems = append(s.Problems, g.Alarms...)
	}
	if mailErr != nil {
		s.Problems = append(s.Problems, roleAway(mailErr, "mail", s.Roles))
	} else {
		s.Mail = &m
		for _, a := range m.Alarms {
			if !slices.Contains(s.Problems, a) { // both roles may have refused the file
				s.Problems = append(s.Problems, a)
			}
		}
		s.GeoHits = c.geoHits(ctx, nil)
	}
	return s, nil
}

// roleAway says why a role does not answer. One that weir run looks after needs
// nobody to start it.
func roleAway(err error, role string, roles []process.RoleState) string {
	ours := slices.ContainsFunc(roles, func(r process.RoleState) bool { return r.Name == role })
	if ours && errors.Is(err, control.ErrNotRunning) {
		return role + " is not running: weir run is starting it again, see the log of weir run if it does not stay"
	}
	return err.Error()
}

func (c *cli) printStatus(s wholeStatus) {
	for _, p := range s.Problems {
		c.item("ALARM", "%s", printable(p))
	}
	if len(s.Problems) == 0 {
		c.say("all is well")
	}
	for _, r := range s.Roles {
		c.item("role", "%-6s %s", r.Name, c.roleLine(r))
	}
	if s.Guard != nil {
		c.printGuardStatus(*s.Guard)
	}
	if s.Mail != nil {
		c.printMailStatus(*s.Mail)
	}
	for _, h := range s.GeoHits {
		c.say("geo       %s: %s", hitText(h), insteadOf(h))
	}
}

func (c *cli) roleLine(r process.RoleState) string {
	line := "not running"
	if r.Pid != 0 {
		line = fmt.Sprintf("pid %d, up %s", r.Pid, span(c.now().Sub(r.Since)))
	}
	if r.Restarts > 0 {
		line += fmt.Sprintf(", started again %s, last end: %s", plural(r.Restarts, "time"), r.Last)
	}
	return line
}

func (c *cli) printGuardStatus(g guard.Status) {
	mode := g.Firewall
	if g.Observe {
		mode += ", observing: nothing is dropped (weir bans --would: who would be)"
	}
	c.item("firewall", "%s, %s, %s", mode, plural(g.Bans, "ban"), plural(g.Allow, "allowed prefix"))
	for _, t := range g.Trials {
		c.item("trial", "%v; undone in %s, weir confirm keeps it", t, span(t.Until.Sub(c.now())))
	}
	if g.Firewall != "on" {
		return // the engines are out of the kernel, as they should be
	}
	for _, e := range g.Engines {
		c.item("  "+e.Engine, "%s", engineLine(e))
		if denied := deniedPlaces(e.Places); len(denied) > 0 {
			c.item("  geo", "new connections denied by geo.drop: %s", counts(denied))
		}
	}
}

// deniedPlaces are those from which somebody was denied.
func deniedPlaces(places map[string]firewall.Place) map[string]uint64 {
	denied := map[string]uint64{}
	for name, n := range places {
		if n.Denied > 0 {
			denied[name] = n.Denied
		}
	}
	return denied
}

func engineLine(e guard.EngineStatus) string {
	if !e.Working {
		return "not working"
	}
	if e.Busy && e.Counters == nil {
		return "at work, and has not said yet how it stands"
	}
	line := plural(e.Bans, "ban")
	if e.LeftOut > 0 {
		line += fmt.Sprintf(" (the hottest: no room for %d others)", e.LeftOut)
	}
	if e.Pending > 0 {
		line += fmt.Sprintf(" (%s still to be written)", plural(e.Pending, "change"))
	} else if e.Busy {
		line += " (when it was last free to say)"
	}
	for _, i := range e.Interfaces {
		mode := i.Mode
		if mode == "" {
			mode = "not attached"
		}
		line += fmt.Sprintf("; %s %s", i.Name, mode)
	}
	return line + "; " + counts(e.Counters)
}

func (c *cli) printMailStatus(m mailapi.Status) {
	mode := ""
	if m.Observe {
		mode = ", observing: nothing is refused by policy"
	}
	c.item("mail", "%s on %s%s", m.Hostname, strings.Join(m.Listeners, " "), mode)
	c.item("  now", "%s, %d since %s", plural(m.Open, "connection"), m.Connections, stamp(m.Started))
	if m.Load != "" {
		c.item("  load", "%s", loads[m.Load])
	}
	c.item("  became", "%s", counts(m.Outcomes))
	c.item("  refused", "%s", counts(m.Reasons))
	if len(m.Spared) > 0 {
		c.item("  spared", "%s: would be refused, but for observe or for who the source is", counts(m.Spared))
	}
	c.item("  tls", "%s", m.TLS)
	c.item("greylist", "%v", m.Greylist)
	c.printRoutes(m)
	c.item("records", "%s: %s of %s, oldest %s, %d lost", m.Records.Path, size(m.Records.Bytes), size(m.Records.MaxBytes),
		oldest(m.Records.Oldest), m.Records.Dropped)
	for _, name := range slices.Sorted(maps.Keys(m.Syslog)) {
		if s := m.Syslog[name]; s.Most > 0 { // standard error says so itself
			c.item("syslog", "%s: %s", name, collectorLine(s))
		}
	}
	for _, d := range m.DNS.Servers {
		c.item("dns", "%v %s", d.Server, wellOr(d.Why, d.Checked.IsZero()))
	}
	for _, l := range m.Lists {
		c.item("dnsbl", "%s %s", l.Name, wellOr(l.Why, false))
	}
	for _, f := range m.Feeds {
		c.item("feed", "%s %s, %s", f.Name, plural(f.Entries, "network"), feedState(f))
	}
	for _, p := range m.Providers {
		if p.Why != "" {
			c.item("provider", "%s %s: %s", p.Name, plural(p.Networks, "network"), printable(p.Why))
		}
	}
	for _, g := range m.Geo {
		c.item("geo", "%s", g)
	}
}

// screenful is how many backends, or domains, are shown one by one when all of
// them are well: a hoster has hundreds, and looks for the one that is not.
const screenful = 4

func (c *cli) printRoutes(m mailapi.Status) {
	for _, b := range m.Backends {
		if len(m.Backends) <= screenful || b.State != relay.StateUp {
			c.item("backend", "%s %s %s %s", b.Name, b.URL, b.State, printable(b.Reason))
		}
	}
	for _, d := range m.Domains {
		if len(m.Domains) <= screenful || d.Problem != "" {
			c.item("domain", "%s to %s, recipients from %s%s %s", d.Name, strings.Join(d.Backends, ", "), d.Recipients, observing(d), printable(d.Problem))
		}
	}
	if b, d := len(m.Backends), len(m.Domains); b > screenful || d > screenful {
		c.item("routes", "%s, %s; those above are not well, weir status --json names all", plural(d, "domain"), plural(b, "backend"))
	}
}

// observing is said of a domain that does by itself.
func observing(d relay.DomainStatus) string {
	if d.Observe {
		return ", observing"
	}
	return ""
}

// collectorLine tells where events go and what waits. What is on the way is
// nobody's concern.
func collectorLine(s syslog.Stats) string {
	const onTheWay = 100
	line := fmt.Sprintf("%d sent to %s", s.Sent, s.Target)
	if s.Waiting > onTheWay {
		line += fmt.Sprintf(", %d wait (%s of %s)", s.Waiting, size(s.Bytes), size(s.Most))
	}
	if s.Lost > 0 {
		line += fmt.Sprintf(", %d lost", s.Lost)
	}
	return line
}

// loads are what is done because of how many connections are open.
var loads = map[smtp.Load]string{
	smtp.HalfFull: "half of smtp.max_connections are open: strangers wait less at the gate",
	smtp.Crowded:  "nearly all places for strangers are taken: those who keep us waiting are put off",
	smtp.Full:     "all places for strangers are taken: they hear 421; the last tenth is for who is known",
}

// wellOr says how something is.
func wellOr(why string, never bool) string {
	switch {
	case never:
		return "not asked yet"
	case why == "":
		return "well"
	}
	return "suspended: " + printable(why)
}

func oldest(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return stamp(t)
}

// counts lists what was counted, in order of names.
func counts(m map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
		}
	}
	if len(parts) == 0 {
		return "nothing yet"
	}
	return strings.Join(parts, ", ")
}

// size is a number of bytes in the unit that leaves at most four digits.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 10_000 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
