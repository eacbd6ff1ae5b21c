package record

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/record/syslog"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// sink keeps events as text, without header.
type sink struct {
	mu   sync.Mutex
	said []string
}

func (s *sink) Send(m *syslog.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := m.ID
	for _, p := range m.Params {
		text += " " + p.Name + "=" + p.Value
	}
	s.said = append(s.said, text)
}

func (s *sink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.said
	s.said = nil
	return said
}

func newTestLog() (*Log, *sink, *clock) {
	s, c := &sink{}, &clock{t: start}
	return NewLog("mx1", c.now, s), s, c
}

// Each refusal is one event with the same reason as reply and record ("each
// refusal … (d)"); a transaction is one more, that sums it up.
func TestTransactionEvents(t *testing.T) {
	l, s, _ := newTestLog()
	x := fullTransaction()
	x.Facts.MessageID, x.Facts.BackendReply, x.Facts.Slips, x.Facts.Session = "", "", nil, 0
	l.Transaction(&x)
	want := []string{
		"RCPT ref=K7QM-2V9D-4XTR reason=unqualified_recipient alias=DENIED_UNQUALIFIED_RECIPIENT peer=203.0.113.7 mail_from=a@sender.example to=joe trap=true code=550 enhanced=5.1.3 text=no",
		"TRANSACTION ref=K7QM-2V9D-4XTR policy=3f9c outcome=rejected reason=harvest peer=203.0.113.7 country=NL asn=64500 tier=new helo=mail.sender.example tls=TLS1.3" +
			" mail_from=a@sender.example rcpts=3 refused=1 size=4096 backend=office code=354 text=go on score=1.5 ms=412",
	}
	if got := s.take(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("said\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	null := smtp.Transaction{Facts: smtp.Facts{Time: start, MailFrom: new("")}, Outcome: smtp.Aborted}
	l.Transaction(&null)
	none := smtp.Transaction{Facts: smtp.Facts{Time: start}, Outcome: smtp.Aborted}
	l.Transaction(&none)
	got := s.take()
	if len(got) != 2 || !strings.Contains(got[0], " mail_from= ") || strings.Contains(got[1], "mail_from") {
		t.Errorf("null sender and no MAIL are said as %q", got)
	}
}

func TestSeverity(t *testing.T) {
	for _, tc := range []struct {
		outcome smtp.Outcome
		reason  reply.Reason
		want    syslog.Severity
	}{
		{smtp.Accepted, "", syslog.Info}, {smtp.Aborted, "", syslog.Info}, {"", "", syslog.Info},
		{smtp.Rejected, reply.Harvest, syslog.Notice}, {smtp.Deferred, reply.BackendAway, syslog.Notice},
		{smtp.Deferred, reply.Internal, syslog.Error},
	} {
		x := smtp.Transaction{Outcome: tc.outcome, Reason: tc.reason}
		l := NewLine(&x, "")
		if got := transactionEvent(&l).Severity; got != tc.want {
			t.Errorf("%s %s has severity %d, want %d", tc.outcome, tc.reason, got, tc.want)
		}
	}
}

func TestBansAndChanges(t *testing.T) {
	l, s, _ := newTestLog()
	b := Ban{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Until: start.Add(48 * time.Hour), Reason: "harvest", Ref: mustRef("K7QM-2V9D-4XTR"), Step: 1}
	l.Ban(b)
	l.Unban(Ban{Prefix: b.Prefix, By: "anna", Why: "our own monitor"})
	l.Change("root", "configuration", "reloaded")
	want := []string{
		"BAN prefix=203.0.113.7/32 reason=harvest ref=K7QM-2V9D-4XTR until=2026-11-24T08:30:00.000Z step=1",
		"UNBAN prefix=203.0.113.7/32 by=anna why=our own monitor",
		"CHANGE by=root what=configuration detail=reloaded",
	}
	if got := s.take(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("said\n%s", strings.Join(got, "\n"))
	}
}

// An alarm is said when it is raised and when it is over, however often both
// are reported between.
func TestAlarms(t *testing.T) {
	l, s, c := newTestLog()
	l.Clear("disk", "was never raised")
	l.Alarm("disk", "95 % full: make room")
	c.add(time.Minute)
	l.Alarm("disk", "96 % full: make room")
	l.Alarm("backend", "away: start it")
	stand := l.Alarms()
	if len(stand) != 2 || stand[1] != (Alarm{"disk", "96 % full: make room", start}) {
		t.Errorf("standing: %+v", stand)
	}
	l.Clear("disk", "room again")
	l.Clear("disk", "room again")
	l.Alarm("disk", "95 % full: make room")
	want := []string{
		"ALARM alarm=disk detail=95 % full: make room",
		"ALARM alarm=backend detail=away: start it",
		"CLEAR alarm=disk detail=room again since=2026-11-22T08:30:00.000Z",
		"ALARM alarm=disk detail=95 % full: make room",
	}
	if got := s.take(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("said\n%s", strings.Join(got, "\n"))
	}
}

// The Recorder in front of the store says and stores the same.
func TestBefore(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	l, s, _ := newTestLog()
	rec := l.Before(f.Store)
	x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	rec.Announce(context.Background(), x)
	if got := s.take(); got != nil {
		t.Errorf("an announcement is no event: %q", got)
	}
	rec.Record(x)
	rec.Convicted(x.Facts.Ref, x.Facts.Peer, start, harvest, false)
	got := s.take()
	want := "CONVICTION ref=" + x.Facts.Ref.String() + " reason=harvest peer=203.0.113.7 rule=unknown_per_hour window=1h0m0s unknown=25 valid=1 enforced=false"
	if len(got) != 3 || !strings.HasPrefix(got[0], "RCPT ") || !strings.HasPrefix(got[1], "TRANSACTION ") || got[2] != want {
		t.Errorf("said %q", got)
	}
	if story, err := f.Why(context.Background(), x.Facts.Ref.String(), 1); err != nil || len(story.Records) != 1 || len(story.Convictions) != 1 {
		t.Errorf("stored %+v, %v", story, err)
	}
}

func TestSetSinks(t *testing.T) {
	l, old, _ := newTestLog()
	next := &sink{}
	l.SetSinks(next)
	l.Ban(Ban{Ref: ref.New()})
	if len(old.take()) != 0 || len(next.take()) != 1 {
		t.Error("the old sink is told, or the new one is not")
	}
}

// What a start finds wrong before anybody listens is said to the first who do,
// once (R-MC-07).
func TestAlarmsOfTheStartAreSaid(t *testing.T) {
	c := &clock{t: start}
	l, first, next := NewLog("mx1", c.now), &sink{}, &sink{}
	l.Alarm("configuration", "bad: mend it")
	l.Alarm("disk", "full: make room")
	l.Clear("disk", "room again")
	c.add(time.Minute)
	l.SetSinks(first)
	l.SetSinks(next)
	if got := first.take(); len(got) != 1 || got[0] != "ALARM alarm=configuration detail=bad: mend it" {
		t.Errorf("said %q", got)
	}
	if got := next.take(); len(got) != 0 {
		t.Errorf("said again %q", got)
	}
}

// What was seen dropped of a source is one event, with how much of it was seen.
func TestDropped(t *testing.T) {
	l, s, _ := newTestLog()
	l.Dropped(Drop{
		Source: netip.MustParseAddr("203.0.113.7"), Reason: "banned", Country: "NL", Engine: "xdp", Port: 25, Samples: 3,
		First: start, Last: start.Add(time.Second),
	})
	want := "DROP source=203.0.113.7 reason=banned country=NL engine=xdp port=25 samples=3 first=2026-11-22T08:30:00.000Z"
	if got := s.take(); len(got) != 1 || got[0] != want {
		t.Errorf("said %q", got)
	}
}
