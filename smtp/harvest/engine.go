package harvest

import (
	"slices"
	"strings"
	"time"

	"github.com/dchest/siphash"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

const harvestReason = reply.Harvest

// engine is the state, and what events make of it. Nothing in it reads a clock,
// draws a number or walks over a map to decide, so that the same events always
// give the same convictions.
type engine struct {
	rules    Rules
	opts     Options
	sources  *table
	valid    *recent[uint64, instant] // recipients that were valid, and when last
	visits   *visits
	networks *recent[key, *network]
	crowds   *recent[key, *network]
	shared   *recent[uint64, *namers]
	domains  *recent[string, *domain]
	all      *domain               // everywhere
	friendly *recent[key, instant] // networks, and when mail from within was last accepted
	guests   *recent[key, []guest] // the same of the hosts of a /64
}

func newEngine(rules Rules, o Options) *engine {
	w := &engine{
		rules: rules, opts: o,
		sources:  newTable(o.MaxSources, o.Key),
		valid:    newRecent[uint64, instant](o.MaxValid),
		visits:   newRecent[ref.Ref, *visit](maxSessions),
		networks: newRecent[key, *network](maxNetworks),
		crowds:   newRecent[key, *network](maxCrowds),
		shared:   newRecent[uint64, *namers](maxShared),
		domains:  newRecent[string, *domain](maxDomains),
		friendly: newRecent[key, instant](maxNetworks),
		guests:   newRecent[key, []guest](maxNetworks),
	}
	w.all = w.domain(everywhere)
	return w
}

func (w *engine) hash(s string) uint64 {
	return siphash.Hash(w.opts.Key[0], w.opts.Key[1], []byte(s))
}

func keyHash(seed [2]uint64, k key) uint64 { return siphash.Hash(seed[0], seed[1], k[:]) }

// event is one answered RCPT with what is derived of it.
type event struct {
	now     instant
	time    time.Time
	src     smtp.Source
	rcpt    smtp.Recipient
	to      string // lower case
	hash    uint64
	person  uint64 // hash of whom a good recipient is for: to without its tag
	null    bool
	source  *source
	domain  *domain
	visit   *visit
	lenient lenience
}

func (w *engine) event(t time.Time, src smtp.Source, r smtp.Recipient, null bool) *event {
	e := &event{now: at(t), time: t, src: src, rcpt: r, to: strings.ToLower(r.To), null: null}
	e.hash = w.hash(e.to)
	e.person = w.hash(untagged(e.to))
	name := e.to[strings.LastIndexByte(e.to, '@')+1:]
	if r.Reason == reply.Relaying { // not ours: it must not push out what is
		e.domain = &domain{name: name}
		return e
	}
	e.domain = w.domain(name)
	return e
}

// recipient takes in one answered RCPT command.
func (w *engine) recipient(t time.Time, src smtp.Source, r smtp.Recipient, null bool) smtp.Advice {
	k := kindOf(r, null)
	if k == 0 && r.Reason != reply.Relaying && !persistent(r.Reason) {
		w.nothing(t, src, r)
		return smtp.Advice{}
	}
	e := w.event(t, src, r, null)
	if k.good() {
		w.wasValid(e)
		if r.Age != smtp.Cached {
			e.domain.takes(e.now)
		}
	}
	if src.Tier == smtp.Protected || w.rules == (Rules{}) {
		return smtp.Advice{}
	}
	e.source = w.sources.get(w.keyOf(e.now, src.Addr), e.now)
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

// lenience is how the source of e is looked at.
func (w *engine) lenience(e *event) lenience {
	p := &e.source.past
	l := lenience{tier: p.tier(e.now, e.src.Tier), proven: p.days > 1, halved: e.domain.attacked(e.now) || w.all.attacked(e.now)}
	l.halved = l.halved || l.stranger() && (w.inHotCrowd(e.now, &e.src) || w.nearGuessers(e.now, e.source))
	return l
}

// wasValid keeps that a recipient exists, which forgives those who name it when
// it is gone. Tags can be made up without end, so they are kept for those only
// who are no strangers: one mailbox must not push the real ones out.
func (w *engine) wasValid(e *event) {
	if stranger := (lenience{tier: e.src.Tier}).stranger(); e.person != e.hash && stranger {
		return
	}
	w.valid.put(e.hash, e.now)
}

// named is what a recipient counts as.
func (e *event) named(k kind) uint64 {
	if k.good() {
		return e.person
	}
	return e.hash
}

// untagged is a mailbox without the tag that its owner may add (jane+shop@): to
// know one good address must not count as knowing as many as a guesser likes
// to make of it. Only the plus is a tag wherever it is one; a hyphen is more
// often part of a name.
func untagged(mailbox string) string {
	at := strings.LastIndexByte(mailbox, '@')
	if plus := strings.IndexByte(mailbox, '+'); plus > 0 && plus < at {
		return mailbox[:plus] + mailbox[at:]
	}
	return mailbox
}

// kindOf is what a recipient turned out to be; 0 where nothing was learnt, by
// nobody.
func kindOf(r smtp.Recipient, null bool) kind {
	switch {
	case r.Oracle == smtp.Unknown || r.Trap:
		if null {
			return unknownNull
		}
		return unknown
	case r.Oracle == smtp.Valid && role(r.To):
		return validRole
	case r.Oracle == smtp.Valid:
		return valid
	}
	return 0
}

// nothing takes in a recipient of whom nobody could say anything. One that is
// taken all the same is known to exist once its message is.
func (w *engine) nothing(t time.Time, src smtp.Source, r smtp.Recipient) {
	if r.Oracle == smtp.Unavailable || r.Oracle == "" && r.Reason != "" {
		return
	}
	to := strings.ToLower(r.To)
	if v := w.visit(at(t), src); r.Reason == "" && len(v.taken) < maxOfSession {
		v.taken = append(v.taken, w.hash(to))
	}
	if r.Oracle != smtp.Any {
		return
	}
	d := w.domain(to[strings.LastIndexByte(to, '@')+1:])
	if !d.all {
		d.all = true
		w.alarm(at(t), "accept_all", d.name, "the directory takes every recipient: who guesses cannot be told")
	}
}

func (w *engine) validRecipient(e *event, k kind) smtp.Advice {
	s := e.source
	s.see(e.now, e.person, k)
	s.past.recipient(true)
	v := w.visit(e.now, e.src)
	v.names(e.person, k)
	v.domain = e.domain
	e.domain.good(e.now)
	w.all.good(e.now)
	if e.lenient.stranger() {
		w.tellNetworks(e.now, s, e.person, k)
		w.tellCrowds(e, k)
	}
	fresh := since(e.now, s.first) < newFor
	if e.lenient.halved && e.lenient.stranger() && fresh && !e.null && k == valid {
		return smtp.Advice{Say: reply.UnderAttack}
	}
	return smtp.Advice{}
}

func (w *engine) unknownRecipient(e *event, k kind) smtp.Advice {
	if e.rcpt.Age != smtp.Cached && !e.rcpt.Trap {
		w.doubt(e.domain)
	}
	if then, ok := w.valid.get(e.hash); ok && !e.rcpt.Trap {
		if since(e.now, then) < brokenWithin {
			w.refuses(e.now, e.domain, e.hash, keyHash(w.opts.Key, e.source.key))
		}
		return e.say(w.sickness(e))
	}
	if e.domain.broken {
		return e.say(reply.OracleAway)
	}
	v := w.visit(e.now, e.src)
	e.visit = v
	if k == unknownNull && !e.rcpt.Trap && w.inWave(e) && !e.src.Nameless {
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
	k := e.source.key
	return e.domain.bounces(e.now, keyHash(w.opts.Key, k), keyHash(w.opts.Key, networkKeys(k)[0]))
}

// sickness is the reason to answer with in place of a no that means nothing.
func (w *engine) sickness(e *event) reply.Reason {
	if e.domain.broken {
		return reply.OracleAway
	}
	return ""
}

func (e *event) say(r reply.Reason) smtp.Advice { return smtp.Advice{Say: r} }

// accuse moves a source to those that are forgotten late.
func (w *engine) accuse(s *source) {
	if s.ring == harmless {
		w.sources.move(s, guilty)
	}
}

// judge enters a fresh unknown recipient wherever it is evidence, and says
// whether it completes a conviction.
func (w *engine) judge(e *event, k kind) (smtp.Conviction, bool) {
	if e.lenient.stranger() && !e.null {
		w.tellNetworks(e.now, e.source, e.hash, k)
		w.tellCrowds(e, k)
		w.guessed(e.now, e.domain)
		e.lenient.halved = e.lenient.halved || e.domain.attack || w.all.attack
		if local, _, _ := strings.Cut(e.to, "@"); !roles[local] && !e.src.Vouched {
			w.shares(e.now, e.source, w.hash(local))
		}
	}
	if e.rcpt.Trap {
		if c, ok := w.trapped(e); ok {
			return c, true
		}
	}
	t := e.source.tally(e.now)
	if c, ok := w.judgeCounts(e, &t); ok {
		return c, true
	}
	if e.lenient.stranger() && !e.null && w.inHotNetwork(e.now, e.source, t.week) {
		return w.convict(e.now, e.source, e.lenient.tier, reply.Harvest, RulePrefix, week, t.week), true
	}
	if rule := w.rules.ever(e.lenient, &e.source.past); rule != "" && !e.null {
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
	if n <= 0 || e.visit.struck || e.lenient.tier == smtp.Trusted || !e.visit.guessing() {
		return smtp.Conviction{}, false
	}
	if e.lenient.tier == smtp.Known && c.share() < longShare {
		return smtp.Conviction{}, false // one of several behind an address
	}
	e.visit.struck = true
	o := w.offend(e.source)
	addMoment(&o.Strikes, e.now, w.rules.StrikesPerDay)
	if momentsWithin(o.Strikes, e.now, aDay) < n {
		return smtp.Conviction{}, false
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

// refusedFor takes in what was refused to the source for other reasons: foreign
// domains (it looks for a relay) and what it is.
func (w *engine) refusedFor(e *event) (smtp.Conviction, bool) {
	switch {
	case e.rcpt.Reason == reply.Relaying:
		return w.foreign(e)
	case persistent(e.rcpt.Reason) && w.rules.RefusedPerHour > 0:
		o := w.offend(e.source)
		addMoment(&o.Refused, e.now, w.rules.RefusedPerHour)
		if momentsWithin(o.Refused, e.now, anHour) >= w.rules.RefusedPerHour {
			return w.convict(e.now, e.source, e.lenient.tier, reply.Persistence, RuleRefused, hour, e.source.tally(e.now).hour), true
		}
	}
	return smtp.Conviction{}, false
}

// persistent says whether a refusal is one of the source for what it is, so
// that going on after it is an offence. Names, SPF, syntax, sizes and whatever
// is temporary never are (smtp-filter.md section 4).
func persistent(r reply.Reason) bool {
	switch r {
	case reply.EarlyTalk, reply.NotSMTP, reply.Blocked, reply.Geo, reply.DNSBL, reply.Score:
		return true
	}
	return false
}

// finished takes in the end of a transaction.
func (w *engine) finished(t time.Time, src smtp.Source, o smtp.Outcome, why reply.Reason) {
	now := at(t)
	if src.Tier == smtp.Protected {
		return
	}
	switch {
	case o == smtp.Accepted || o == smtp.Spooled:
		s := w.sources.get(w.keyOf(now, src.Addr), now)
		s.past.accept(now)
		w.sources.move(s, friends)
		w.befriend(s)
		w.welcome(now, src.Addr)
		w.delivered(now, src, o)
	case o == smtp.Rejected && persistent(why) && w.rules.SessionsPerHour > 0:
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

// delivered remembers the recipients of an accepted message that nobody could
// say anything of before: should the directory deny one later, it was there.
// And a backend that took the message knows its recipients: it works, though
// nobody had asked it about them.
func (w *engine) delivered(now instant, src smtp.Source, o smtp.Outcome) {
	v := w.visit(now, src)
	if v.domain != nil && o == smtp.Accepted {
		v.domain.takes(now)
	}
	v.domain = nil
	for _, h := range v.taken {
		w.valid.put(h, now)
	}
	v.taken = nil
}

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
	k := smtp.Conviction{Reason: why, Spared: t == smtp.Trusted, Evidence: smtp.Evidence{
		Rule: rule, Window: window, Unknown: c.unknown + c.null, Valid: c.valid + c.roles, Guesses: s.evidence(),
	}}
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
	s.guesses = append(append(s.guesses, to...), '\n')
	for len(s.guesses) > maxGuesses {
		i := slices.Index(s.guesses, '\n')
		s.guesses = append(s.guesses[:0], s.guesses[i+1:]...)
	}
}

func (s *source) evidence() []string {
	if len(s.guesses) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(s.guesses), "\n"), "\n")
}

// roles are the mailboxes that everybody knows to exist (RFC 2142), so that
// naming one shows no acquaintance, and that two name it nothing shared.
var roles = map[string]bool{
	"postmaster": true, "abuse": true, "hostmaster": true, "webmaster": true, "info": true, "admin": true,
	"administrator": true, "contact": true, "support": true, "sales": true, "marketing": true, "noc": true,
	"security": true, "root": true, "mail": true, "office": true, "help": true, "billing": true, "hello": true,
	"team": true, "service": true, "noreply": true, "no-reply": true, "newsletter": true,
}

func role(mailbox string) bool {
	local, _, _ := strings.Cut(untagged(mailbox), "@")
	return roles[strings.ToLower(local)]
}
