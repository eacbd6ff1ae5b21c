package harvest

import (
	"mailweir/smtp"
)

const (
	// knownFor is how long an accepted message makes a source known: the same
	// time as a greylist pass.
	knownFor = 36 * day

	trustedMails = 20
	trustedDays  = 3
	trustedBad   = 0.2 // share of unknown recipients below which a source may be trusted
)

// past is the history that trust is earned by. Naming a recipient who exists
// earns nothing, or a guesser would name one with each guess: a message has to
// come. And mail to role addresses alone shows no acquaintance.
type past struct {
	accepted  instant // when mail of it was last accepted; 0: never
	convicted instant // when it last was, 0: never; what it earned before is lost
	mails     uint16
	good, bad uint16 // persons who got mail of it, each once an hour; recipients that were unknown
	days      uint8  // spans of 24 hours with accepted mail
	met       bool   // some of that was for a person
}

// accept takes in an accepted message. Days are spans of 24 hours from its first
// one on: two minutes around midnight are not two days.
func (s *source) accept(now instant) {
	p := &s.past
	if p.days == 0 {
		s.phase = uint16(now % aDay / phaseStep)
	}
	phase := instant(s.phase) * phaseStep
	if p.days == 0 || (now-phase)/aDay > (p.accepted-phase)/aDay { // both are behind the first day of 1970
		p.days = min(p.days, 254) + 1
	}
	if p.accepted < now || p.accepted-now > outOfOrder {
		p.accepted = now
	}
	p.mails = min(p.mails, 1<<16-2) + 1
}

// phaseStep is how exactly the time of day is kept at which a span begins: so
// that it fits into 16 bits.
const phaseStep = 2

// recipient takes in a person who got mail, or one that was unknown. The numbers
// are halved when they would overflow: what was lately weighs more.
func (p *past) recipient(good bool) {
	if p.good == 1<<16-1 || p.bad == 1<<16-1 {
		p.good, p.bad = p.good/2, p.bad/2
	}
	if good {
		p.good++
	} else {
		p.bad++
	}
}

// condemn ends the trust that was earned; it has to be earned anew.
func (p *past) condemn(now instant) { *p = past{convicted: max(1, now)} }

// tier is what the history makes of a source that came as given. What the
// operator or the checks say of it counts until its first conviction.
func (p *past) tier(now instant, given smtp.Tier) smtp.Tier {
	if given == smtp.Protected || given == smtp.Provider {
		return given
	}
	if p.convicted != 0 && since(now, p.convicted) < knownFor && given != smtp.Suspect {
		given = smtp.New
	}
	switch {
	case given == smtp.Trusted || given == smtp.Suspect:
		return given
	case p.accepted == 0 || sinceGood(now, p.accepted) >= knownFor:
	case p.trusted():
		return smtp.Trusted
	default:
		return smtp.Known
	}
	if given == "" {
		return smtp.New
	}
	return given
}

// history is the past as the checks look at it; nil: there is none.
func (p *past) history(now instant) *smtp.History {
	h := smtp.History{Good: int(p.good), Bad: int(p.bad), Convicted: p.convicted != 0 && since(now, p.convicted) < knownFor}
	if p.accepted != 0 && sinceGood(now, p.accepted) < knownFor {
		h.Mails, h.Days = int(p.mails), int(p.days)
	}
	if h == (smtp.History{}) {
		return nil
	}
	return &h
}

func (p *past) trusted() bool {
	all := float64(p.good) + float64(p.bad)
	return p.mails >= trustedMails && p.days >= trustedDays && float64(p.bad) < trustedBad*all
}
