package harvest

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// refusedFor takes in what was refused to the source for other reasons: foreign
// domains (it looks for a relay) and what it is.
func (w *engine) refusedFor(e *event) (smtp.Conviction, bool) {
	switch {
	case e.rcpt.reason == reply.Relaying:
		return w.foreign(e)
	case e.src.Itself && persistent(e.rcpt.reason) && w.rules.RefusedPerHour > 0:
		o := w.offend(e.source)
		addMoment(&o.Refused, e.now, w.rules.RefusedPerHour)
		if momentsWithin(o.Refused, e.now, anHour) >= w.rules.RefusedPerHour {
			return w.convict(e.now, e.source, e.lenient.tier, reply.Persistence, RuleRefused, hour, e.source.tally(e.now).hour), true
		}
	}
	return smtp.Conviction{}, false
}

// persistent says whether a refusal may be one of the source for what it is
// (Source.Itself says whether it is), so that going on after it is an offence. Names, SPF, syntax, sizes and whatever
// is temporary never are (smtp-filter.md section 4).
func persistent(r reply.Reason) bool {
	switch r {
	case reply.EarlyTalk, reply.NotSMTP, reply.Blocked, reply.Geo, reply.DNSBL, reply.Score:
		return true
	}
	return false
}

// finished takes in the end of a transaction. A message that was refused though
// a recipient had been taken was refused for what it says (SPF and DMARC of what
// others forged and a forwarder sent on), and not for what its source is.
func (w *engine) finished(now instant, src *smtp.Source, o smtp.Outcome, why reply.Reason) {
	if src.Tier == smtp.Protected {
		return
	}
	m := w.over(src)
	switch {
	case o == smtp.Accepted || o == smtp.Spooled:
		s := w.sources.get(w.keyOf(now, src.Addr), now)
		s.accept(now)
		w.sources.move(s, friends)
		w.befriend(s)
		w.welcome(now, src.Addr)
		w.delivered(now, s, &m, o)
	case o == smtp.Rejected && src.Itself && persistent(why) && !m.takes && w.rules.SessionsPerHour > 0:
		v := w.visit(now, src)
		if v.refused {
			return
		}
		v.refused = true
		s := w.sources.get(w.keyOf(now, src.Addr), now)
		off := w.offend(s)
		addMoment(&off.Sessions, now, w.rules.SessionsPerHour)
		if momentsWithin(off.Sessions, now, anHour) >= w.rules.SessionsPerHour {
			off.Sessions = nil
			w.mark(now, s, reply.Persistence, RuleSessions)
		}
	}
}

// delivered enters whom an accepted message was for. Those that nobody could say
// anything of are remembered: should the directory deny one later, it was there.
// And a backend that took the message knows its recipients: it works, though
// nobody had asked it about them.
func (w *engine) delivered(now instant, s *source, m *message, o smtp.Outcome) {
	if m.domain != nil && o == smtp.Accepted {
		m.domain.takes(now)
	}
	for _, h := range m.persons {
		s.wroteTo(h)
	}
	for _, h := range m.taken {
		w.valid.put(h, now)
	}
	s.past.met = s.past.met || len(m.persons)+len(m.taken) > 0
}
