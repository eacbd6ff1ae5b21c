package harvest

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailweir/smtp"
)

// Attacker is a source as weir top shows it: what it named, and how near it is
// to a conviction.
type Attacker struct {
	Source  netip.Prefix `json:"source"`
	Tier    smtp.Tier    `json:"tier"`
	Unknown int          `json:"unknown"` // distinct recipients in the last hour
	Valid   int          `json:"valid"`
	Share   float64      `json:"share"`  // of the unknown
	Rate    float64      `json:"rate"`   // unknown recipients a minute, over the time it has been guessing in that hour
	Rule    string       `json:"rule"`   // the rule that it is nearest to
	Nearby  float64      `json:"nearby"` // 0 to 1: convicted
	Strikes int          `json:"strikes"`
	Marked  string       `json:"marked,omitempty"` // the rule by which it is convicted when it comes
	Last    time.Time    `json:"last"`             // when it was last seen
	Guess   string       `json:"guess"`            // its latest
}

// mostLooked bounds how many of the latest guessers Top looks at.
const mostLooked = 20_000

// Top lists those who named unknown recipients within the last hour, or who
// wait to be convicted, the nearest to a conviction first.
func (w *Watch) Top(now time.Time, most int) []Attacker {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := []Attacker{}
	for _, ring := range []int{guilty, friends} {
		n := w.e.sources.rings[ring].tail
		for i := 0; n != none && i < mostLooked; i++ {
			s := w.e.sources.at(n)
			if a, ok := w.e.attacker(at(now), s); ok {
				all = append(all, a)
			}
			n = s.prev
		}
	}
	slices.SortFunc(all, func(a, b Attacker) int {
		return cmp.Or(cmp.Compare(b.Nearby, a.Nearby), cmp.Compare(b.Unknown, a.Unknown), a.Source.Compare(b.Source))
	})
	return all[:min(most, len(all))]
}

func (s *source) isMarked() bool { return s.offences != nil && s.offences.Mark != nil }

func (w *engine) attacker(now instant, s *source) (Attacker, bool) {
	t := s.tally(now)
	c := t.hour
	if c.unknown+c.null == 0 && !s.isMarked() {
		return Attacker{}, false
	}
	a := s.key.addr()
	bits := a.BitLen()
	if a.Is6() && hostOf(a) == 0 {
		bits = 64
	}
	l := lenience{tier: s.past.tier(now, smtp.New), proven: s.past.days > 1, fresh: s.fresh(now)}
	k := Attacker{
		Source: netip.PrefixFrom(a, bits), Tier: l.tier, Unknown: c.unknown + c.null, Valid: c.valid + c.roles,
		Share: c.share(), Rate: rateOf(s.seen(), now), Last: time.Unix(int64(s.last), 0).UTC(),
	}
	if g := s.evidence(); len(g) > 0 {
		k.Guess = g[len(g)-1]
	}
	l.halved = w.halves(now, s, k.Guess)
	w.nearest(&k, &t, l, &s.past)
	if s.offences != nil {
		k.Strikes = momentsWithin(s.offences.Strikes, now, aDay)
		if near := float64(k.Strikes) / float64(max(1, w.rules.strikes(l))); near > k.Nearby {
			k.Rule, k.Nearby = RuleStrikes, near
		}
	}
	if s.isMarked() {
		k.Rule, k.Marked, k.Nearby = s.offences.Mark.Rule, s.offences.Mark.Rule, 1
	}
	return k, true
}

// halves says whether the source needs half as much now as else: the domain of
// its latest guess is under attack, or its network guesses.
func (w *engine) halves(now instant, s *source, guess string) bool {
	if d, ok := w.domains.get(guess[strings.LastIndexByte(guess, '@')+1:]); ok && d.attacked(now) || w.all.attacked(now) {
		return true
	}
	e := event{now: now, source: s}
	w.lookAround(&e)
	return e.nearGuessers()
}

// nearest finds the rule that the source is nearest to. A rule whose share it
// does not reach is as far away as the share is short of it.
func (w *engine) nearest(k *Attacker, t *tally, l lenience, p *past) {
	for _, r := range w.rules.limits(l) {
		c := t.of(r.window)
		if r.count <= 0 {
			continue
		}
		near := max(0, c.weighted()) / r.count
		if r.share > 0 {
			near *= min(1, c.share()/r.share)
		}
		k.reaches(r.name, near)
	}
	if bad, all := float64(p.bad), float64(p.bad)+float64(p.good); all > 0 && w.rules.UnknownPerDay > 0 {
		k.reaches(RuleEver, bad/(perEver*w.rules.limits(l)[1].count)*min(1, bad/all/longShare))
	}
}

// reaches enters a rule if it is the nearest so far.
func (k *Attacker) reaches(rule string, near float64) {
	if near = min(near, 1); near > k.Nearby || k.Rule == "" {
		k.Rule, k.Nearby = rule, near
	}
}

// rateOf is how many unknown recipients a minute were named in the last hour,
// since the first of them.
func rateOf(list []seen, now instant) float64 {
	n, first := 0, now
	for i := range list {
		e := &list[i]
		if k := e.kind(); (k == unknown || k == unknownNull) && since(now, e.at) < hour {
			n++
			first = min(first, e.at)
		}
	}
	return float64(n) / max(1, float64(now-first)/60)
}

// Alarms are the states that stand now: domains under attack, directories that
// are broken.
func (w *Watch) Alarms(now time.Time) []Alarm {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Alarm
	w.e.domains.each(func(_ string, d *domain) {
		if d.attacked(at(now)) {
			list = append(list, Alarm{"under_attack", time.Unix(int64(d.hot), 0), d.name,
				"strangers name unknown recipients by the dozen"})
		}
		if d.isBroken() {
			list = append(list, Alarm{"directory_broken", now, d.name,
				"recipients that were taken before are unknown now: nothing counts and nobody is refused for it until one is taken again; see to the server behind"})
		}
	})
	slices.SortFunc(list, func(a, b Alarm) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Domain, b.Domain)) })
	return list
}
