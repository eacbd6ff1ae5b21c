package mailrole

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/config"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/record/syslog"
	"mailweir/smtp/harvest"
)

// said keeps what a collector would hear of alarms.
type said struct {
	mu  sync.Mutex
	all []string
}

func (s *said) Send(m *syslog.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprintf("%s %s %s", m.ID, m.Params[0].Value, m.Params[1].Value))
}

func (s *said) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.all, "\n")
	s.all = nil
	return all
}

// TestAlarmsOfGuardAreEvents: each comes and goes once, however often guard is
// asked; that it is away is said after the second question (R-MC-07).
func TestAlarmsOfGuardAreEvents(t *testing.T) {
	heard := &said{}
	log := record.NewLog("mx1", time.Now, heard)
	var answer []guard.Alarm
	var away error
	w := guardWatch{ask: func(context.Context) ([]guard.Alarm, error) { return answer, away }, alarms: log}
	ledger, hurry := guard.Alarm{Name: "ledger", Text: "not saved: make room"}, guard.Alarm{Name: "hurry", Text: "200 bans: see weir top"}
	for _, step := range []struct {
		what   string
		answer []guard.Alarm
		away   error
		want   string
	}{
		{"all is well", nil, nil, ""},
		{"one", []guard.Alarm{ledger}, nil, "ALARM guard.ledger not saved: make room"},
		{"the same", []guard.Alarm{ledger}, nil, ""},
		{"another", []guard.Alarm{hurry}, nil, "ALARM guard.hurry 200 bans: see weir top\nCLEAR guard.ledger it is over"},
		{"guard is started again", nil, errors.New("nobody answers"), ""},
		{"guard is away", nil, errors.New("nobody answers"), "ALARM guard.away nobody answers: bans stay in the kernel and new offenders are refused at the gate; see whether guard runs"},
		{"still away", nil, errors.New("nobody answers"), ""},
		{"it is back", nil, nil, "CLEAR guard.away guard answers again\nCLEAR guard.hurry it is over"},
	} {
		answer, away = step.answer, step.away
		w.look(t.Context())
		if got := heard.take(); got != step.want {
			t.Errorf("%s: said %q, want %q", step.what, got, step.want)
		}
	}
	if left := log.Alarms(); len(left) != 0 {
		t.Errorf("alarms stand: %v", left)
	}
}

// TestStatusSaysGuardsAlarmsOnce: weir status has them from guard.
func TestStatusSaysGuardsAlarmsOnce(t *testing.T) {
	e := &events{Log: record.NewLog("mx1", time.Now)}
	e.Alarm(guardAlarm+"ledger", "of guard")
	e.Alarm(alarmConfig, "of the mail role")
	if got := e.alarms(); len(got) != 1 || got[0] != "of the mail role" {
		t.Errorf("weir status has %q", got)
	}
}

// While observing nobody is told 451.
func TestAttackTextWhileObserving(t *testing.T) {
	a := harvest.Alarm{Name: "under_attack", Domain: "example.com", Detail: "40 a minute"}
	if got := attackText(a, true); !strings.Contains(got, "strangers would hear 451") {
		t.Error(got)
	}
	m := &mail{cfg: config.Config{Domains: []config.Domain{{Name: "example.com", Observe: true}, {Name: "example.org"}}}}
	if !m.observes("example.com") || m.observes("example.org") || m.observes("") {
		t.Error("a domain's own observe does not count for itself alone")
	}
}

// An attack outlives observe: whoever takes observe out during one reads what
// strangers hear from then on.
func TestTheEndOfObserveDuringAnAttack(t *testing.T) {
	attacks := []harvest.Alarm{{Name: "under_attack", Domain: "example.com", Detail: "40 a minute"}, {Name: "directory_broken", Domain: "example.com"}}
	domains := func(observe bool) []config.Domain { return []config.Domain{{Name: "example.com", Observe: observe}} }
	all, one, none := config.Config{Observe: true, Domains: domains(false)}, config.Config{Domains: domains(true)}, config.Config{Domains: domains(false)}
	for _, tc := range []struct {
		old, next config.Config
		want      int
	}{{all, none, 1}, {one, none, 1}, {all, one, 0}, {none, all, 0}, {none, none, 0}} {
		got := enforcedNow(attacks, tc.old, tc.next)
		if len(got) != tc.want || tc.want > 0 && !strings.Contains(got[0], "example.com is being guessed at: 40 a minute; strangers hear 451 for now") {
			t.Errorf("from %+v to %+v: %q", tc.old, tc.next, got)
		}
	}
}
