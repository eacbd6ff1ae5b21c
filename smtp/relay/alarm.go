package relay

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
)

// Alarm is something that an operator has to see to.
type Alarm struct {
	Name  string    `json:"name"`  // misconfigured_backend, backend_away, accept_all, recipients_file
	About string    `json:"about"` // a backend, a backend and a domain, or a domain
	Since time.Time `json:"since,omitzero"`
	Text  string    `json:"text"`
}

// Alarms is who is told of alarms; a name is raised and cleared once.
type Alarms interface {
	Alarm(name, detail string)
	Clear(name, detail string)
}

const (
	reportEvery = 10 * time.Second
	// awayAlarm is how long a backend may be away before somebody has to know,
	// who then knows within a minute, the way to Report included.
	awayAlarm = 45 * time.Second
)

// Report tells of alarms as they come and go, some seconds after, until ctx is
// done. What stands then is known to the next Report over the same Memory, so
// that a reload neither repeats nor forgets an alarm. One Report runs at a time.
func (r *Router) Report(ctx context.Context, m *Memory, to Alarms) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		m.report(r.Status(m).Alarms, to)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Memory) report(now []Alarm, to Alarms) {
	standing := make(map[string]Alarm, len(now))
	for _, a := range now {
		name := a.Name + " " + a.About
		standing[name] = a
		if _, told := m.alarmed[name]; !told {
			to.Alarm(name, a.About+": "+a.Text)
		}
	}
	for name, a := range m.alarmed {
		if _, still := standing[name]; !still {
			to.Clear(name, a.About+": "+cmp.Or(over[a.Name], "over"))
		}
	}
	m.alarmed = standing
}

// over is what is said at an alarm's end.
var over = map[string]string{
	"misconfigured_backend": "it takes our mail again",
	"backend_away":          "it answers again",
	"accept_all":            "it refuses unknown recipients again",
	"recipients_file":       "the file is in use again",
}

func (s Status) alarms(now time.Time) []Alarm {
	var all []Alarm
	for _, b := range s.Backends {
		for _, r := range b.Refusals {
			about := b.Name
			if r.Domain != "" {
				about += " for " + r.Domain
			}
			all = append(all, Alarm{"misconfigured_backend", about, r.Since, "it refuses us, so its mail waits at the senders: " + r.Reason})
		}
		if b.State == StateAway && now.Sub(b.Since) >= awayAlarm {
			all = append(all, Alarm{"backend_away", b.Name, b.Since, "it does not answer, so its mail waits at the senders: " + b.Reason})
		}
	}
	for _, d := range s.Domains {
		if d.AcceptAll && !strings.HasPrefix(d.Recipients, "file:") { // a list tells guesses from real addresses, whatever its backend takes
			all = append(all, Alarm{"accept_all", d.Name, d.AllSince, fmt.Sprintf(
				"%v takes every recipient, so guessed addresses cannot be told from real ones; have it verify recipients at RCPT, or list them: recipients = \"file:PATH\"", d.Backends)})
		}
		if d.Problem != "" {
			all = append(all, Alarm{"recipients_file", d.Name, time.Time{}, d.Problem})
		}
	}
	return all
}
