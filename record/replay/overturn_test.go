package replay_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// A conviction that the canary overturned then is overturned again; the guesses
// from before still count, so that the next one convicts once the directory is
// well.
func TestOverturnedThen(t *testing.T) {
	for _, canary := range []smtp.OracleState{"", smtp.Unknown} {
		s := newStage(4)
		a := addr("203.0.113.7")
		for i := range 26 {
			s.after(time.Second)
			l := s.send(a, "x@bot.example", bad(fmt.Sprintf("g%d@example.com", i))...)
			if i == 24 && canary != "" {
				r := &l.Rcpts[0]
				r.Oracle, r.Canary, r.Reason = smtp.Unavailable, canary, reply.OracleAway
				r.Reply = new(reply.OracleAway.Reply())
				l.Outcome, l.Reason = smtp.Deferred, &r.Reason
			}
			s.send(addr("192.0.2.200"), "list@partner.example", good(person(i))...) // it works, but for a while
		}
		says, sum := play(t, s.lines, s.truth, nil)
		at := s.lines[48].Time
		if canary != "" {
			at = s.lines[50].Time
		}
		for _, v := range says {
			if b, ok := v.(replay.Ban); ok && b.Time.Sub(at.Time) > time.Second || ok && b.Time.Before(at.Time) {
				t.Errorf("canary %q: banned at %v, want %v", canary, b.Time, at)
			}
		}
		if sum.Bans != 1 || sum.Alarms != min(1, len(canary)) {
			t.Errorf("canary %q: %+v", canary, sum)
		}
	}
}

// What a canary said stands in the record of the next recipient, and counts from
// there: mailboxes of which it was known that the directory works are closed, and
// who guesses is banned; a directory that it found broken convicts nobody.
func TestCanaryOfThen(t *testing.T) {
	for _, c := range []struct {
		said        smtp.OracleState
		bans, alarm int
	}{{"", 0, 1}, {smtp.Valid, 1, 0}, {smtp.Unknown, 0, 1}} {
		s := newStage(5)
		s.office(3)
		for i := range 3 { // the third makes that it seems to be broken
			s.after(time.Minute)
			l := s.send(netip.AddrFrom4([4]byte{198, 51, byte(i), 1}), "x@firm.example", bad(person(i))...)
			if i == 2 && c.said != "" {
				l.Rcpts[0].Directory = &record.Directory{Said: c.said, At: l.Time}
			}
		}
		for i := range 26 {
			s.after(time.Second)
			s.send(addr("203.0.113.7"), "x@bot.example", bad(fmt.Sprintf("g%d@example.com", i))...)
		}
		if _, sum := play(t, s.lines, s.truth, nil); sum.Bans != c.bans || sum.Alarms != c.alarm {
			t.Errorf("canary %q: %+v, want %d bans and %d alarms", c.said, sum, c.bans, c.alarm)
		}
	}
}
