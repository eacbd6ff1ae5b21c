package harvest

import (
	"path"
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Traps are spamtraps: addresses that nobody was ever given, so that whoever
// writes to them guessed, or bought a list. The zero Traps is none.
type Traps struct {
	addresses map[string]bool
	domains   map[string]bool
	patterns  []string
}

// NewTraps takes addresses (trap@example.com), patterns with * and ?
// (old-*@example.com, *@*.example.com) and whole domains (trap.example.com or
// @trap.example.com), all regardless of case. What is none of them matches
// nothing.
func NewTraps(list []string) Traps {
	t := Traps{addresses: map[string]bool{}, domains: map[string]bool{}}
	for _, s := range list {
		s = strings.ToLower(strings.TrimSpace(s))
		local, domain, at := strings.Cut(s, "@")
		if !at {
			local, domain = "", local
		}
		switch pattern := strings.ContainsAny(s, "*?["); {
		case pattern && local == "":
			t.patterns = append(t.patterns, "*@"+domain)
		case pattern:
			t.patterns = append(t.patterns, s)
		case local == "":
			t.domains[domain] = true
		default:
			t.addresses[s] = true
		}
	}
	return t
}

// Match says whether a mailbox, lower case or not, is a trap.
func (t Traps) Match(mailbox string) bool {
	if len(t.addresses)+len(t.domains)+len(t.patterns) == 0 {
		return false
	}
	m := strings.ToLower(mailbox)
	if t.addresses[m] || t.domains[m[strings.LastIndexByte(m, '@')+1:]] {
		return true
	}
	for _, p := range t.patterns {
		if ok, err := path.Match(p, m); ok && err == nil {
			return true
		}
	}
	return false
}

// trapped takes in a message to a spamtrap. Whoever has a good name, and
// whoever may have been led there by somebody else (a trap forged as sender, or
// signed up to a list), needs another offence.
func (w *engine) trapped(e *event) (smtp.Conviction, bool) {
	o := w.offend(e.source)
	addHit(&o.Traps, e.hash, e.now, max(2, w.rules.TrapHits))
	need, alone := w.rules.TrapHits, e.lenient.stranger()
	if e.null || e.src.Vouched {
		need, alone = max(2, need), false
	}
	if w.rules.TrapHits <= 0 || hitsWithin(o.Traps, e.now, aWeek) < need || !alone && !e.source.another(e.now) {
		return smtp.Conviction{}, false
	}
	return w.convict(e.now, e.source, e.lenient.tier, reply.Trap, RuleTrap, week, e.source.tally(e.now).week), true
}
