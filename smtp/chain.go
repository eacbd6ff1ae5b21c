package smtp

import (
	"strconv"
	"strings"
	"time"

	"mailweir/smtp/reply"
)

// Chain is the order of the judges (R-CX-07). Each slice is run when the facts
// of its stage are gathered.
//
// The judges of Mail, Rcpt, Oracle and Data say what cannot be helped, and the
// first that does not pass ends its stage. Those of Peer, HELO, Sender and
// Content are policy: they are weighed together (Weigh), all of them, for each
// recipient, and again when the message is here.
type Chain struct {
	Arrival []Link // the connection was made, and of its source only the address is known; to drop is to convict
	Gate    []Link // before the greeting; those of Peer that can be judged there
	Mail    []Link // MAIL was parsed
	Rcpt    []Link // RCPT was parsed and routed; the recipient is the last of Facts.Rcpts
	Lists   []Link // the operator's lists were asked; before all of policy
	Peer    []Link // who it is that connects; before the oracle is asked
	HELO    []Link // what he calls himself; with them
	Oracle  []Link // the oracle answered for that recipient
	Sender  []Link // whom the mail is from; after the oracle
	Data    []Link // the message was received whole
	Content []Link // what it says of who wrote it; after that

	Greylist Greylister // asked last, of mail that all others would take; nil: nobody is

	Observe bool // what these judges refuse is only told

	RejectScore float64 // of the judges of policy together; 0: no sum refuses
}

// SuspectScore is the score of the Peer judges from which a source is suspect.
const SuspectScore = 4

// Weight is what the judges of policy say together.
type Weight struct {
	Said    []Saying
	Score   float64
	Verdict Verdict // the refusal: the first judge's, or that of the sum; else Pass
}

// Arrives is the verdict on a source by its address alone: that of the first
// judge of Arrival that does not pass. It bans.
func (c *Chain) Arrives(f *Facts) Verdict {
	for _, l := range c.Arrival {
		if v := l.Judge.Judge(f); !v.passes() {
			return v
		}
	}
	return Verdict{Action: reply.Pass}
}

// Suspects says whether what is known of the peer alone makes it suspect.
func (c *Chain) Suspects(f *Facts) bool {
	w := c.Weigh(f, c.Peer)
	return w.Score >= SuspectScore || w.Verdict.Action == reply.Reject
}

// Saying is one judge's verdict.
type Saying struct {
	Name    string
	Verdict Verdict
	Took    time.Duration
}

// Weigh has every judge of stages say its word, and sums up. It is pure but for
// the time that it takes, which is told.
func (c *Chain) Weigh(f *Facts, stages ...[]Link) Weight {
	w := Weight{Verdict: Verdict{Action: reply.Pass}}
	for _, links := range stages {
		for _, l := range links {
			begun := time.Now()
			v := l.Judge.Judge(f)
			w.Said = append(w.Said, Saying{l.Name, v, time.Since(begun)})
			w.Score += v.Score
			if w.Verdict.passes() && !v.passes() {
				w.Verdict = v
			}
		}
	}
	if w.Verdict.passes() && c.RejectScore > 0 && w.Score >= c.RejectScore {
		w.Verdict = w.sum(c.RejectScore)
	}
	return w
}

// sum is the refusal by the score: in the name of the one check that would have
// been enough, else for all of them.
func (w *Weight) sum(enough float64) Verdict {
	var parts []string
	for _, s := range w.Said {
		v := s.Verdict
		switch {
		case v.Score >= enough:
			v.Action, v.Score = reply.Reject, 0
			return v
		case v.Score != 0:
			parts = append(parts, string(v.Reason)+" "+points(v.Score))
		}
	}
	detail := points(w.Score) + " of " + points(enough) + ": " + strings.Join(parts, ", ")
	return Verdict{Action: reply.Reject, Reason: reply.Score, Reply: reply.Score.Reply().Detail(detail), Detail: detail}
}

func points(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
