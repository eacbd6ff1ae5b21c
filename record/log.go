package record

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mailweir/record/syslog"
	"mailweir/ref"
	"mailweir/smtp"
)

// Sink takes events; *syslog.Exporter is one. Send never blocks.
type Sink interface{ Send(*syslog.Message) }

// Log says to its sinks what happens, and keeps the alarms that stand. Its
// methods can be called from any goroutine, and never block. The zero Log has
// no sinks and no clock: use NewLog.
type Log struct {
	node string
	now  func() time.Time

	mu     sync.Mutex
	sinks  []Sink
	alarms map[string]Alarm
}

var _ Alarms = (*Log)(nil)

// Alarm is something that is wrong until it is cleared.
type Alarm struct {
	Name   string    `json:"alarm"`
	Detail string    `json:"detail"` // ends with what to do
	Since  time.Time `json:"since"`
}

// NewLog returns a Log for this machine, called node in its events.
func NewLog(node string, clock func() time.Time, sinks ...Sink) *Log {
	return &Log{node: node, now: clock, sinks: sinks, alarms: map[string]Alarm{}}
}

// SetSinks changes who is told, as after a reload. The first who are hear of
// the alarms that stand already: a start raises some before anybody listens.
func (l *Log) SetSinks(sinks ...Sink) {
	l.mu.Lock()
	var untold []Alarm
	if len(l.sinks) == 0 {
		untold = l.standing()
	}
	l.sinks = slices.Clone(sinks)
	l.mu.Unlock()
	for _, a := range untold {
		l.send(alarmEvent(a.Name, a.Detail, a.Since))
	}
}

func (l *Log) send(m *syslog.Message) {
	l.mu.Lock()
	sinks := l.sinks
	l.mu.Unlock()
	for _, s := range sinks {
		s.Send(m)
	}
}

// Transaction says one event for each refused recipient, then one that sums
// the transaction up.
func (l *Log) Transaction(t *smtp.Transaction) {
	line := NewLine(t, l.node)
	for i := range line.Rcpts {
		if r := &line.Rcpts[i]; r.refused() {
			l.send(rcptEvent(&line, r))
		}
	}
	l.send(transactionEvent(&line))
}

// Ban says that a prefix is dropped from now on.
func (l *Log) Ban(b Ban) { l.send(banEvent("BAN", &b, l.now())) }

// Unban says that a ban was lifted before its end.
func (l *Log) Unban(b Ban) { l.send(banEvent("UNBAN", &b, l.now())) }

// Ban is a ban as events tell it.
type Ban struct {
	Time   time.Time // when it was made or lifted; zero: now
	Prefix netip.Prefix
	Until  time.Time // zero: no end
	Reason string
	Ref    ref.Ref
	Step   int    // 0 for a first ban
	By     string // who ordered it; "": the ledger, by its rules
	Why    string // in his words
}

// Dropped says that packets of a source were seen dropped.
func (l *Log) Dropped(d Drop) { l.send(dropEvent(&d)) }

// Drop is what was seen dropped of a source for a reason, within a while: some
// packets of however many there were.
type Drop struct {
	Source      netip.Addr // of IPv6 the first address of the /64
	Reason      string     // banned, geo, syn_limit, flood, malformed
	Country     string
	Engine      string
	Port        uint16 // of the last; 0: not known
	Samples     int
	First, Last time.Time
}

// Change says that somebody changed something: the configuration, a list.
func (l *Log) Change(by, what, detail string) { l.send(changeEvent(by, what, detail, l.now())) }

// Alarm raises an alarm. One that stands is not said again, but its detail is
// kept up to date.
func (l *Log) Alarm(name, detail string) {
	if since, isNew := l.raise(name, detail); isNew {
		l.send(alarmEvent(name, detail, since))
	}
}

func (l *Log) raise(name, detail string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, stood := l.alarms[name]
	if !stood {
		a = Alarm{Name: name, Since: l.now()}
	}
	a.Detail = detail
	l.alarms[name] = a
	return a.Since, !stood
}

// Clear ends an alarm that stands.
func (l *Log) Clear(name, detail string) {
	l.mu.Lock()
	a, stood := l.alarms[name]
	delete(l.alarms, name)
	l.mu.Unlock()
	if stood {
		l.send(clearEvent(&a, detail, l.now()))
	}
}

// Alarms lists the alarms that stand, by name.
func (l *Log) Alarms() []Alarm {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.standing()
}

func (l *Log) standing() []Alarm {
	return slices.SortedFunc(maps.Values(l.alarms), func(a, b Alarm) int { return cmp.Compare(a.Name, b.Name) })
}

// Before returns a Recorder that says every transaction and conviction, and
// hands it on to next.
func (l *Log) Before(next smtp.Recorder) smtp.Recorder { return spoken{l, next} }

type spoken struct {
	log  *Log
	next smtp.Recorder
}

// Announce hands on: the event comes with the end of the transaction.
func (s spoken) Announce(ctx context.Context, t smtp.Transaction) { s.next.Announce(ctx, t) }

func (s spoken) Record(t smtp.Transaction) {
	s.log.Transaction(&t)
	s.next.Record(t)
}

func (s spoken) Convicted(r ref.Ref, peer netip.Addr, at time.Time, c smtp.Conviction, enforced bool) {
	k := newConviction(r, peer, at, c, enforced)
	s.log.send(convictionEvent(&k))
	s.next.Convicted(r, peer, at, c, enforced)
}
