// Package harvest finds out who is guessing addresses (directory harvest, the
// "rumplestiltskin" attack), from nothing but the answers that recipients got.
//
// Of each source (an IPv4 address, an IPv6 /64) it keeps the distinct
// recipients it named, each with the time at which it last counted, and holds
// sliding windows of an hour, a day and a week against Rules:
//
//	convicted = unknown - credits >= threshold  and  unknown / (unknown + valid) >= share
//
// What does not count, because honest senders do it: the same unknown
// recipient again within seven days (a retry); a recipient that was valid once
// (a stale list); what the oracle could not tell; everything of a protected
// source. A recipient named by the null sender counts a quarter, for bounces
// of forged mail and callouts. Each distinct valid recipient that is no role
// address takes one unknown off, ten at the most (a typist's slips). Beyond a
// week only the mail that came of a source stands against what it guessed.
//
// Who spreads his guesses is looked at from further away:
//
//	source   ─► windows, sessions (strikes), traps, complaints, refusals, foreign domains
//	network  ─► a /24, /56 or /48 whose addresses guess in turn is one guesser
//	crowd    ─► an ASN, or a name in HELO, whose addresses guess: its strangers need half as much
//	botnet   ─► sources that name the same unknown local parts within ten minutes
//	domain   ─► under attack, by itself or with all others: strangers are told nothing, and need half as much
//
// A source that is found out while it is away is convicted when it comes.
//
// What protects the innocent: trust that was earned raises thresholds, and who
// was trusted is spared its first ban; a directory that suddenly refuses
// recipients it took is broken, and nothing counts until it takes one again.
//
// A Watch is a pure machine: its state changes by events alone, each with its
// own time, so that recorded days can be played to it and give what they gave
// live.
package harvest

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Options are what New takes; the zero Options are those of a small system.
type Options struct {
	Key        [2]uint64 // of all hashes: random, kept for as long as the state is
	MaxSources int       // 0: 1<<20. The longest idle are forgotten first, harmless ones before guessers
	MaxValid   int       // 0: 1<<20. Recipients remembered as once valid
	// Alarm is told, once, of each state that somebody should look at. It is
	// called within the event and must not call back. nil: nobody is told.
	Alarm func(Alarm)
	// Doubt is told of a domain whose directory says nothing but no: a canary
	// should be sent, and its answer given to Canary. Called as Alarm is.
	Doubt func(domain string)
}

// Alarm is a state that somebody should look at.
type Alarm struct {
	Name   string // under_attack, directory_broken, accept_all, collateral
	Time   time.Time
	Domain string // "" where it is not about one
	Detail string
}

// Watch is the engine. Its methods may be called concurrently.
type Watch struct {
	mu sync.Mutex
	e  *engine
}

var _ smtp.Watcher = (*Watch)(nil)

// New returns a Watch that knows nobody.
func New(rules Rules, o Options) *Watch {
	return &Watch{e: newEngine(rules, o.withDefaults())}
}

func (o Options) withDefaults() Options {
	if o.MaxSources == 0 {
		o.MaxSources = 1 << 20
	}
	if o.MaxValid == 0 {
		o.MaxValid = 1 << 20
	}
	return o
}

// SetRules changes the thresholds; what sources did stays counted.
func (w *Watch) SetRules(r Rules) {
	w.mu.Lock()
	w.e.rules = r
	w.mu.Unlock()
}

// Sources returns how many sources are remembered.
func (w *Watch) Sources() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.e.sources.len()
}

// Connected implements smtp.Watcher: the conviction that waited for a source.
func (w *Watch) Connected(now time.Time, src smtp.Source) (smtp.Conviction, bool) {
	if src.Tier == smtp.Protected {
		return smtp.Conviction{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.e.sources.find(w.e.keyOf(at(now), src.Addr))
	if s == nil {
		return smtp.Conviction{}, false
	}
	return w.e.marked(at(now), s, s.past.tier(at(now), src.Tier))
}

// Recipient implements smtp.Watcher. A source that was convicted starts from
// nothing, so that only fresh guesses convict it again.
func (w *Watch) Recipient(now time.Time, src smtp.Source, r smtp.Recipient, nullSender bool) smtp.Advice {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e.heard = nil
	a := w.e.recipient(now, &src, &r, nullSender)
	a.Directory = w.e.heard
	return a
}

// Finished implements smtp.Watcher.
func (w *Watch) Finished(now time.Time, src smtp.Source, o smtp.Outcome, why reply.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e.finished(at(now), &src, o, why)
}

// Tier implements smtp.Watcher: by the mail of the source that was accepted.
func (w *Watch) Tier(now time.Time, a netip.Addr, given smtp.Tier) smtp.Tier {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.e.sources.find(w.e.keyOf(at(now), a)); s != nil {
		return s.past.tier(at(now), given)
	}
	return given
}

// History implements smtp.Watcher. Mail of long ago makes nobody good, and unknown
// recipients of the last day make nobody bad: the rules count these. A guesser whom
// they refused by a score would not be told of, and be banned later for it.
func (w *Watch) History(now time.Time, a netip.Addr) *smtp.History {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.e.sources.find(w.e.keyOf(at(now), a))
	if s == nil {
		return nil
	}
	p := s.past
	p.bad -= min(p.bad, uint16(count(s.seen(), at(now)).day.unknown))
	return p.history(at(now))
}

// Complaint takes in a complaint of a reporter about mail from a source, which
// the caller has proven: the reporter got that mail. It counts once a reporter.
// marked says that the source is convicted when it comes.
func (w *Watch) Complaint(now time.Time, a netip.Addr, reporter string) (count, need int, marked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	need = w.e.rules.Complaints
	if need <= 0 {
		return 0, 0, false
	}
	s := w.e.sources.get(w.e.keyOf(at(now), a), at(now))
	o := w.e.offend(s)
	addHit(&o.Reports, w.e.hash(strings.ToLower(reporter)), at(now), need)
	if count = hitsWithin(o.Reports, at(now), aWeek); count >= need && o.Mark == nil {
		w.e.mark(at(now), s, reply.Complaint, RuleComplaints)
	}
	return count, need, count >= need
}

// Retract takes a complaint back (R-BX-08), and the conviction that it led to
// where that still waits.
func (w *Watch) Retract(now time.Time, a netip.Addr, reporter string) (count, need int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	need = w.e.rules.Complaints
	s := w.e.sources.find(w.e.keyOf(at(now), a))
	if s == nil || s.offences == nil {
		return 0, need
	}
	o, h := s.offences, w.e.hash(strings.ToLower(reporter))
	kept := o.Reports[:0]
	for _, r := range o.Reports {
		if r.Hash != h {
			kept = append(kept, r)
		}
	}
	o.Reports = kept
	count = hitsWithin(kept, at(now), aWeek)
	if o.Mark != nil && o.Mark.Rule == RuleComplaints && count < need {
		o.Mark = nil
	}
	return count, need
}

// Canary takes in what a domain's directory said of a recipient that is known
// and of one that cannot exist: broken stops the counting until a recipient is
// taken again, or a canary is well. It counts from the domain's next recipient on,
// whose record has it: so a replay has it at the same place.
func (w *Watch) Canary(now time.Time, domain string, broken bool, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e.domain(strings.ToLower(domain)).canary = &canary{now, broken, detail}
}

func (w *engine) alarm(now instant, name, domain, detail string) {
	if w.opts.Alarm != nil {
		w.opts.Alarm(Alarm{name, time.Unix(int64(now), 0).UTC(), domain, detail})
	}
}
