package harvest

import (
	"slices"
	"strings"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// mark convicts a source that is not there; it is told so when it comes.
func (w *engine) mark(now instant, s *source, why reply.Reason, rule string) {
	w.offend(s).Mark = &mark{why, rule, now}
}

// marked is the conviction that waited for the source.
func (w *engine) marked(now instant, s *source, t smtp.Tier) (smtp.Conviction, bool) {
	if s.offences == nil || s.offences.Mark == nil {
		return smtp.Conviction{}, false
	}
	m := s.offences.Mark
	s.offences.Mark = nil
	if since(now, m.At) >= markedFor {
		return smtp.Conviction{}, false
	}
	return w.convict(now, s, t, m.Reason, m.Rule, week, s.tally(now).week), true
}

// convict ends what is counted of a source, and its trust. Who was trusted is
// not banned for what ends the trust: a ban of somebody good would lose real
// mail, so that is for a person to look at, and its guesser is slowed (R-CX-04).
// Trust does not end where most of what comes is good still: that is a pool of
// many users, one of whom guesses.
func (w *engine) convict(now instant, s *source, t smtp.Tier, why reply.Reason, rule string, window time.Duration, c counts) smtp.Conviction {
	k := smtp.Conviction{Reason: why, Spared: t == smtp.Trusted || t == smtp.Provider, Evidence: smtp.Evidence{
		Rule: rule, Window: window, Unknown: c.unknown + c.null, Valid: c.valid + c.roles, Guesses: s.evidence(),
	}}
	if why == harvestReason && !k.Spared {
		w.keepUndo(s)
	}
	s.acquit()
	if o := s.offences; o != nil && o.Lost != nil {
		s.offences = &offences{Lost: o.Lost}
	} else {
		s.offences = nil
	}
	if !k.Spared || c.share() > poolShare {
		s.past.condemn(now)
		w.sources.move(s, guilty)
	}
	if k.Spared {
		w.offend(s).Slowed = now
		w.alarm(now, "collateral", "", s.key.addr().String()+" is known to be good and was spared a ban for "+string(why)+" by "+rule)
	}
	return k
}

// guessed keeps a recipient as evidence.
func (s *source) guessed(to string) {
	if s.guesses == nil {
		s.guesses = new([]byte)
	}
	list := append(append(*s.guesses, to...), '\n')
	for len(list) > maxGuesses {
		i := slices.Index(list, '\n')
		list = append(list[:0], list[i+1:]...)
	}
	*s.guesses = list
}

func (s *source) evidence() []string {
	if s.guesses == nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(*s.guesses), "\n"), "\n")
}
