package replay_test

import (
	"strings"
	"testing"
	"time"

	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// all puts off every stranger.
func greyAll(o *replay.Options) {
	o.Chain = check.Policy{MaxRecipients: 100, Greylist: check.Greylist{Mode: check.GreylistAll, Terms: greylist.Default}}.Chain()
}

// learnt gives each line what a greylist wants known of a peer.
func (s *stage) learnt() {
	for i := range s.lines {
		l := &s.lines[i]
		l.RDNS = &record.RDNS{Name: "mail." + strings.ReplaceAll(l.Peer.String(), ".", "-") + ".example", State: smtp.Confirmed, Class: "custom"}
		l.SPF = "none"
	}
}

// What a greylist would have put off is told from the facts: a first contact and
// what comes too early, and not the mail after; what had passed before the first
// line stays so.
func TestReplayGreylists(t *testing.T) {
	s := newStage(1)
	to := good("jane@example.com")
	for _, gap := range []time.Duration{0, 5 * time.Minute, 6 * time.Minute, 24 * time.Hour} {
		s.now = s.now.Add(gap)
		s.send(addr("203.0.113.7"), "a@sender.example", to...)
	}
	s.send(addr("203.0.113.7"), "", to...) // the null sender never waits
	known := s.send(addr("198.51.100.7"), "b@other.example", to...)
	known.Rcpts[0].Grey = &record.Grey{State: greylist.Passed}
	told := s.send(addr("198.51.101.7"), "c@other.example", to...)
	told.Greylist = string(greylist.Passed)
	s.learnt()

	want := map[string]replay.Result{
		s.lines[0].Ref: {Outcome: smtp.Deferred, Reason: reply.Greylisted},
		s.lines[1].Ref: {Outcome: smtp.Deferred, Reason: reply.Greylisted},
	}
	says, sum := play(t, s.lines, s.truth, greyAll)
	if len(says) != len(want) || sum.Changed != len(want) {
		t.Errorf("%d lines changed, want %d: %+v", sum.Changed, len(want), says)
	}
	for _, v := range says {
		if c, ok := v.(replay.Change); !ok || want[c.Ref] != c.Result {
			t.Errorf("%+v", v)
		}
	}
}

// A transaction that was put off is one again, and where the greylist is off now
// it is not known what would have come.
func TestReplayOfWhatWasPutOff(t *testing.T) {
	s := newStage(1)
	l := s.send(addr("203.0.113.7"), "a@sender.example", good("jane@example.com")...)
	said := reply.Greylisted.Reply()
	l.Rcpts[0].Reply, l.Rcpts[0].Reason = &said, reply.Greylisted
	s.learnt()
	l.Rcpts[0].Grey = &record.Grey{State: greylist.First, Since: l.Time, Left: 600_000}
	l.Outcome, l.Reason, l.Size, l.MessageID, l.Backend, l.BackendReply = smtp.Deferred, new(reply.Greylisted), 0, "", "", ""
	if says, sum := play(t, s.lines, s.truth, greyAll); len(says) != 0 || sum.MissingFacts != 0 {
		t.Errorf("under the same policy: %+v %+v", says, sum)
	}
	if says, sum := play(t, s.lines, s.truth, nil); len(says) != 0 || sum.MissingFacts != 1 {
		t.Errorf("without a greylist: %+v %+v", says, sum)
	}
}
