package harvest

import (
	"hash/maphash"
	"strings"
	"time"

	"github.com/dchest/siphash"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

const harvestReason = reply.Harvest

// validEvery is how exactly it is known when a recipient was valid last.
const validEvery = hour

// engine is the state, and what events make of it. Nothing in it reads a clock,
// draws a number or walks over a map to decide, so that the same events always
// give the same convictions.
type engine struct {
	rules    Rules
	opts     Options
	sources  *table
	valid    *recent[uint64, instant] // recipients that were valid, and when last
	visits   *visits
	fresh    []*visit // for those to come
	networks *recent[key, *network]
	crowds   *recent[key, *network]
	shared   *recent[uint64, *namers]
	domains  *recent[string, *domain]
	all      *domain               // everywhere
	friendly *recent[key, instant] // networks, and when mail from within was last accepted
	guests   *recent[key, []guest] // the same of the hosts of a /64
	undos    *recent[key, *undo]   // convictions that the canary may still overturn
	heard    *smtp.Directory       // of a canary, with the recipient under way
}

func newEngine(rules Rules, o Options) *engine {
	seed := maphash.MakeSeed() // of places in memory only, which decide nothing
	hashed := func(h uint64) uint64 { return h }
	ofKey := func(k key) uint64 { return maphash.Comparable(seed, k) }
	w := &engine{
		rules: rules, opts: o,
		sources:  newTable(o.MaxSources, ofKey),
		valid:    newRecent[uint64, instant](o.MaxValid, hashed),
		visits:   newRecent[ref.Ref, *visit](maxSessions, func(r ref.Ref) uint64 { return maphash.Comparable(seed, r) }),
		networks: newRecent[key, *network](maxNetworks, ofKey),
		crowds:   newRecent[key, *network](maxCrowds, ofKey),
		shared:   newRecent[uint64, *namers](maxShared, hashed),
		domains:  newRecent[string, *domain](maxDomains, func(name string) uint64 { return maphash.String(seed, name) }),
		friendly: newRecent[key, instant](maxNetworks, ofKey),
		guests:   newRecent[key, []guest](maxNetworks, ofKey),
		undos:    newRecent[key, *undo](maxUndo, ofKey),
	}
	w.visits.gone = w.again
	w.all = w.domain(everywhere)
	return w
}

func (w *engine) hash(s string) uint64 {
	return siphash.Hash(w.opts.Key[0], w.opts.Key[1], []byte(s))
}

func keyHash(seed [2]uint64, k key) uint64 { return siphash.Hash(seed[0], seed[1], k[:]) }

// recipient takes in one answered RCPT command.
func (w *engine) recipient(t time.Time, src *smtp.Source, r *smtp.Recipient, null bool) smtp.Advice {
	k := kindOf(r, null)
	event := event{now: at(t), src: *src, rcpt: rcpt{r.Age, r.Trap, r.Reason}, null: null}
	e := &event
	if k == 0 && r.Reason != reply.Relaying && !(src.Itself && persistent(r.Reason)) {
		w.takes(e)
		w.nothing(e.now, src, r)
		return smtp.Advice{}
	}
	counts := src.Tier != smtp.Protected && w.rules != (Rules{})
	if counts { // before anything else: what lies far away in the memory comes while the rest is made ready
		e.source = w.sources.get(w.keyOf(e.now, src.Addr), e.now)
		w.lookAround(e)
	}
	w.takes(e)
	w.begin(e, r.To)
	w.hear(e)
	if k == valid && isRole(untagged(e.local)) {
		k = validRole
	}
	if k.good() {
		w.wasValid(e)
		if r.Age != smtp.Cached {
			e.domain.takes(e.now)
		}
	}
	if !counts {
		return smtp.Advice{}
	}
	e.lenient = w.lenience(e)
	if c, ok := w.marked(e.now, e.source, e.lenient.tier); ok {
		return smtp.Advice{Convicted: true, Conviction: c}
	}
	if c, ok := w.refusedFor(e); ok {
		return smtp.Advice{Convicted: true, Conviction: c}
	}
	switch {
	case k.good():
		return w.validRecipient(e, k)
	case k != 0:
		return w.unknownRecipient(e, k)
	}
	return smtp.Advice{}
}

// takes notes that the message under way has a recipient, should it have one.
func (w *engine) takes(e *event) {
	if e.rcpt.reason == "" && e.src.Tier != smtp.Protected {
		w.visitOf(e).message.takes = true
	}
}

// lenience is how the source of e is looked at.
func (w *engine) lenience(e *event) lenience {
	p := &e.source.past
	l := lenience{tier: p.tier(e.now, e.src.Tier), proven: p.days > 1, fresh: e.src.Tier != smtp.Known && e.source.fresh(e.now), halved: e.domain.attacked(e.now) || w.all.attacked(e.now)}
	l.halved = l.halved || l.stranger() && (w.inHotCrowd(e.now, &e.src) || e.nearGuessers())
	return l
}

// wasValid keeps that a recipient exists, which forgives those who name it when
// it is gone. Tags can be made up without end, so they are kept for those only
// who are no strangers: one mailbox must not push the real ones out.
func (w *engine) wasValid(e *event) {
	if stranger := (lenience{tier: e.src.Tier}).stranger(); e.person != e.hash && stranger {
		return
	}
	if then, ok := w.valid.get(e.hash); !ok || since(e.now, then) >= validEvery {
		w.valid.put(e.hash, e.now)
	}
}

// nothing takes in a recipient of whom nobody could say anything. One that is
// taken all the same is known to exist once its message is.
func (w *engine) nothing(now instant, src *smtp.Source, r *smtp.Recipient) {
	if r.Oracle == smtp.Unavailable || r.Oracle == "" && r.Reason != "" {
		return
	}
	to := strings.ToLower(r.To)
	if m := &w.visit(now, src).message; r.Reason == "" && len(m.taken) < maxOfSession {
		m.taken = append(m.taken, w.hash(to))
	}
	if r.Oracle != smtp.Any {
		return
	}
	d := w.domain(to[strings.LastIndexByte(to, '@')+1:])
	if !d.all {
		d.all = true
		w.alarm(now, "accept_all", d.name, "the directory takes every recipient: who guesses cannot be told")
	}
}

func (w *engine) validRecipient(e *event, k kind) smtp.Advice {
	s := e.source
	s.see(e.now, e.person, k)
	v := w.visitOf(e)
	v.names(e.person, k)
	v.message.domain = e.domain
	if e.lenient.stranger() {
		e.domain.good(e.now)
		w.all.good(e.now)
		w.tellNetworks(e, e.person, k)
		w.tellCrowds(e, k)
	}
	fresh := since(e.now, s.first) < newFor
	if e.lenient.halved && e.lenient.stranger() && fresh && !e.null && k == valid {
		return smtp.Advice{Say: reply.UnderAttack}
	}
	if m := &v.message; k == valid && e.rcpt.reason == "" && len(m.persons) < maxPersons {
		m.persons = append(m.persons, e.person)
	}
	return smtp.Advice{}
}

func (w *engine) unknownRecipient(e *event, k kind) smtp.Advice {
	if e.rcpt.age != smtp.Cached && !e.rcpt.trap {
		w.doubt(e.domain)
	}
	if then, ok := w.valid.get(e.hash); ok && !e.rcpt.trap {
		if since(e.now, then) < brokenWithin {
			w.refuses(e.now, e.domain, e.hash, keyHash(w.opts.Key, e.source.key))
		}
		return e.say(w.sickness(e))
	}
	if e.domain.broken {
		return e.say(reply.OracleAway)
	}
	v := w.visitOf(e)
	if k == unknownNull && !e.rcpt.trap && w.inWave(e) && !e.src.Nameless {
		return smtp.Advice{} // one of many bounces of mail that somebody forged
	}
	fresh := e.source.see(e.now, e.hash, k)
	w.accuse(e.source)
	if fresh {
		v.names(e.hash, k)
		if k != unknownNull {
			e.source.past.recipient(false)
		}
		e.source.guessed(e.to)
		if c, ok := w.judge(e, k); ok {
			return smtp.Advice{Convicted: true, Conviction: c}
		}
	}
	return w.advise(e, k)
}

func (w *engine) inWave(e *event) bool {
	return e.domain.bounces(e.now, keyHash(w.opts.Key, e.source.key), keyHash(w.opts.Key, e.keys[0]))
}

// sickness is the reason to answer with in place of a no that means nothing.
func (w *engine) sickness(e *event) reply.Reason {
	if e.domain.broken {
		return reply.OracleAway
	}
	return ""
}

// accuse moves a source to those that are forgotten late, as the latest of them.
func (w *engine) accuse(s *source) { w.sources.move(s, max(guilty, s.ring)) }

// judge enters a fresh unknown recipient wherever it is evidence, and says
// whether it completes a conviction.
func (w *engine) judge(e *event, k kind) (smtp.Conviction, bool) {
	if e.lenient.stranger() && !e.null {
		w.tellNetworks(e, e.hash, k)
		w.tellCrowds(e, k)
		w.guessed(e.now, e.domain)
		e.lenient.halved = e.lenient.halved || e.domain.attack || w.all.attack
		if !isRole(e.local) && !e.src.Vouched {
			w.shares(e.now, e.source, w.hash(e.local))
		}
	}
	if e.rcpt.trap {
		if c, ok := w.trapped(e); ok {
			return c, true
		}
	}
	t := e.source.tally(e.now)
	if c, ok := w.judgeCounts(e, &t); ok {
		return c, true
	}
	if e.lenient.stranger() && !e.null && w.inHotNetwork(e, t.week) {
		return w.convict(e.now, e.source, e.lenient.tier, reply.Harvest, RulePrefix, week, t.week), true
	}
	if rule := w.rules.ever(e.lenient, &e.source.past, &t); rule != "" && !e.null {
		return w.convict(e.now, e.source, e.lenient.tier, reply.Harvest, rule, week, t.week), true
	}
	if c, ok := w.strike(e, t.day); ok {
		return c, true
	}
	return w.marked(e.now, e.source, e.lenient.tier)
}

// judgeCounts holds the windows against the rules of the source's tier.
func (w *engine) judgeCounts(e *event, t *tally) (smtp.Conviction, bool) {
	for _, l := range w.rules.limits(e.lenient) {
		c := t.of(l.window)
		weight := c.weighted()
		if l.name == RuleAbsolute {
			weight = float64(c.unknown) + float64(c.null)/4
		}
		if l.count > 0 && weight >= l.count && c.share() >= l.share {
			return w.convict(e.now, e.source, e.lenient.tier, reply.Harvest, l.name, l.window, c), true
		}
	}
	if n := w.rules.NullPerHour; n > 0 && t.hour.null >= n && t.hour.share() >= nullShare {
		return w.convict(e.now, e.source, e.lenient.tier, reply.Harvest, RuleNull, hour, t.hour), true
	}
	return smtp.Conviction{}, false
}

// strike counts the session if it is one of a guesser, once.
func (w *engine) strike(e *event, c counts) (smtp.Conviction, bool) {
	n := w.rules.strikes(e.lenient)
	if n <= 0 || e.visit.struck || e.lenient.tier == smtp.Trusted || e.lenient.tier == smtp.Provider || !e.visit.guessing() {
		return smtp.Conviction{}, false
	}
	if e.lenient.tier == smtp.Known && c.share() < longShare {
		return smtp.Conviction{}, false // one of several behind an address
	}
	e.visit.struck = true
	o := w.offend(e.source)
	addMoment(&o.Strikes, e.now, w.rules.StrikesPerDay)
	if momentsWithin(o.Strikes, e.now, aDay) < n || c.share() < strikeShare {
		return smtp.Conviction{}, false // or a large list, some parts of which are staler than others
	}
	return w.convict(e.now, e.source, e.lenient.tier, reply.Harvest, RuleStrikes, day, c), true
}

// advise is what becomes of an unknown recipient that convicts nobody.
func (w *engine) advise(e *event, k kind) smtp.Advice {
	a := smtp.Advice{Wait: e.visit.wait(w.rules.Slow)}
	switch {
	case e.visit.struck:
		a.Say = reply.TooManyUnknown
	case e.source.slowed(e.now):
		a.Say, a.Wait = reply.UnderAttack, max(a.Wait, w.rules.Slow)
		if e.visit.guessing() {
			a.Say = reply.TooManyUnknown
		}
	case e.lenient.halved && e.lenient.stranger(): // at once, as to a valid one: waiting would tell them apart
		a.Say, a.Wait = reply.UnderAttack, 0
	case k == unknownNull && w.rules.NullPerHour > 0:
		c := e.source.tally(e.now).hour
		if float64(c.null) >= nullDefer*float64(w.rules.NullPerHour) {
			a.Say, a.Wait = reply.UnderAttack, max(a.Wait, w.rules.Slow)
		}
	}
	return a
}
