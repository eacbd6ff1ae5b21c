package replay_test

import (
	"testing"

	"mailweir/record/replay"
	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/reply"
)

// geo.ban under replay: the first connection of a source from there is a ban,
// and what came of it, and comes after it, is dropped.
func TestReplayBansPlaces(t *testing.T) {
	s := newStage(3)
	fast(s, false)
	for i := range s.lines {
		s.lines[i].Country = "NL"
	}
	first := s.lines[0]
	says, sum := play(t, s.lines, truth{}, func(o *replay.Options) {
		o.Chain = check.Policy{MaxRecipients: 100, GeoBan: []string{"NL"}}.Chain()
	})
	b, ok := says[0].(replay.Ban)
	if !ok || !b.Ban.Contains(first.Peer) || b.Reason != reply.Geo || b.Evidence.Rule != "geo.ban NL" || sum.Bans == 0 {
		t.Fatalf("said first: %+v, in all %+v", says[0], sum)
	}
	for _, v := range says[1:] {
		if c, ok := v.(replay.Change); ok && c.Outcome != smtp.Dropped {
			t.Errorf("%+v, want all dropped", c)
		}
	}
}
