package mailrole

import (
	"context"
	"os"
	"strings"
	"time"

	"mailweir/firewall/guard"
	"mailweir/record"
)

// Every alarm of the appliance is an event, ALARM when it comes and CLEAR when
// it is over, and goes one way: through [events] of the mail role, the only one
// that speaks to collectors (R-MC-07). Guard's are fetched from it.

const (
	// watchGuardEvery leaves an alarm of guard half a minute at most to become
	// an event.
	watchGuardEvery = 10 * time.Second
	// guardAlarm begins the names of guard's alarms. weir status has them from
	// guard itself.
	guardAlarm = "guard."
	guardAway  = guardAlarm + "away"
	noEngine   = "no_engine" // as guard calls it
)

// The alarms that a start of the mail role can find.
const (
	alarmConfig      = "configuration"
	alarmHarvestLost = "harvest_lost"
)

// The names of alarms of collectors begin so, and end with the collector's.
const (
	alarmCollector = "syslog."
	alarmBuffer    = "syslog_buffer."
)

// guardWatch makes events of what is wrong with guard.
type guardWatch struct {
	ask    func(context.Context) ([]guard.Alarm, error)
	alarms record.Alarms
	alone  func(bool) // whether no engine holds the kernel; nil: nobody wants to know
	stood  map[string]bool
	missed int // questions without an answer, one after the other
}

// look asks once. One answer may be missed: guard is started again after it
// died, and that is nothing to be called for.
func (w *guardWatch) look(ctx context.Context) {
	all, err := w.ask(ctx)
	if err != nil {
		if w.missed++; w.missed > 1 && ctx.Err() == nil {
			w.alarms.Alarm(guardAway, err.Error()+": bans stay in the kernel and new offenders are refused at the gate; see whether guard runs")
		}
		return
	}
	w.missed = 0
	w.alarms.Clear(guardAway, "guard answers again")
	stand := map[string]bool{}
	for _, a := range all {
		stand[a.Name] = true
		w.alarms.Alarm(guardAlarm+a.Name, a.Text)
	}
	for name := range w.stood {
		if !stand[name] {
			w.alarms.Clear(guardAlarm+name, "it is over")
		}
	}
	w.stood = stand
	if w.alone != nil {
		w.alone(stand[noEngine])
	}
}

// watchAlarms looks at what no event of its own tells, at each tick.
func (m *mail) watchAlarms(ctx context.Context, tick <-chan time.Time) {
	w := guardWatch{ask: m.guard.Alarms, alarms: m.events, alone: m.offender.alone.Store}
	for {
		w.look(ctx)
		m.tellDrops(ctx)
		m.offender.calm()
		m.events.look()
		m.harvestFound()
		m.damage.look()
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

// tellDrops tells collectors whose packets were seen dropped. Guard, when it is
// away, is an alarm already.
func (m *mail) tellDrops(ctx context.Context) {
	list, err := m.guard.Samples(ctx)
	if err != nil {
		return
	}
	for _, s := range list {
		country, _ := m.places.Lookup(s.Source)
		m.events.Dropped(record.Drop{
			Source: s.Source, Reason: s.Reason, Country: country, Engine: s.Engine,
			Port: s.Port, Samples: s.Seen, First: s.First, Last: s.Last,
		})
	}
}

// harvestFound ends the alarm of a damaged state when somebody has looked, and
// deleted it.
func (m *mail) harvestFound() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.aside == "" {
		return
	}
	if _, err := os.Lstat(m.aside); os.IsNotExist(err) {
		m.aside = ""
		m.events.Clear(alarmHarvestLost, "the damaged state was removed")
	}
}

// seenElsewhere says that weir status has an alarm from guard itself.
func seenElsewhere(name string) bool { return strings.HasPrefix(name, guardAlarm) }
