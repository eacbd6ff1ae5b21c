package harvest

import (
	"time"

	"mailweir/smtp"
)

// Rules are the thresholds for a new source; Watch derives those of the other
// tiers from them. A zero field switches its rule off, and the zero Rules
// convict nobody: begin with Default.
type Rules struct {
	UnknownPerHour int     // distinct unknown recipients in an hour that convict …
	SharePerHour   float64 // … when at least this share (0 to 1) of the distinct ones is unknown
	UnknownPerDay  int
	SharePerDay    float64
	AbsolutePerDay int // distinct never-valid recipients in a day that convict whatever the share

	StrikesPerDay int // sessions closed for their unknown recipients
	NullPerHour   int // distinct unknown recipients of the null sender

	TrapHits   int // of a source without good history, in a week; others need another offence
	Complaints int // proven, of different reporters, in a week

	RefusedPerHour  int // recipients refused to a source for what it is, in an hour
	SessionsPerHour int // and sessions in which nothing else was said
	ForeignPerHour  int // distinct domains that we do not serve

	// Slow is how long the first answer to a guesser is held back, and by how
	// much longer each next one.
	Slow time.Duration
}

// Default is what the product starts with (smtp-filter.md section 4).
var Default = Rules{
	UnknownPerHour: 25, SharePerHour: 0.8,
	UnknownPerDay: 50, SharePerDay: 0.9,
	AbsolutePerDay: 300, StrikesPerDay: 3, NullPerHour: 200,
	TrapHits: 1, Complaints: 3,
	RefusedPerHour: 30, SessionsPerHour: 10, ForeignPerHour: 5,
	Slow: 200 * time.Millisecond,
}

// Names of the rules, as evidence and records show them.
const (
	RuleHour       = "unknown_per_hour"
	RuleDay        = "unknown_per_day"
	RuleWeek       = "unknown_per_week"
	RuleAbsolute   = "absolute_per_day"
	RuleEver       = "unknown_ever"
	RuleAlways     = "always"
	RuleStrikes    = "strikes_per_day"
	RuleNull       = "null_sender_per_hour"
	RulePrefix     = "unknown_of_prefix"
	RuleShared     = "shared_guesses"
	RuleTrap       = "trap_hits"
	RuleComplaints = "complaints"
	RuleRefused    = "refused_per_hour"
	RuleSessions   = "refused_sessions_per_hour"
	RuleForeign    = "foreign_domains_per_hour"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
	week = 7 * day

	// maxCredits bounds what known recipients buy a source, or a guesser with a
	// bought list of ten thousand good addresses could guess for ever.
	maxCredits = 10

	// maxNull bounds what unknown recipients of the null sender weigh in the
	// rules of hour and day: bounces of forged mail and callouts alone never
	// reach a rule but their own (R-RN-15).
	maxNull = 10

	// nullShare is from which share on the null sender's own rule holds.
	nullShare = 0.5

	// poolShare is up to which share of unknown recipients a trusted source is
	// a pool of users who mostly are good.
	poolShare = 0.5

	// strikeShare of what a source named in the day has to be unknown for its
	// strikes to convict it: in each of them it was.
	strikeShare = 0.5

	// nullDefer of the rule's recipients make the null sender's next unknown
	// one a 451, which a callout repeats and a bounce survives.
	nullDefer = 0.25

	// always is the number of unknown recipients that convicts anybody
	// (R-BX-13), however good his name.
	always = 1000

	// alwaysShare is from which share on that is so of all that a source ever
	// named: a few wrong addresses among many are a large sender's daily bread.
	alwaysShare = 0.3

	// perWeek and perEver are how many times the day's count a week and all
	// time may have, where next to nothing that a source names exists.
	perWeek   = 2
	perEver   = 4
	longShare = 0.95
)

// limit is one rule made ready for one source.
type limit struct {
	name   string
	window time.Duration
	count  float64 // weighted distinct unknown recipients, credits taken off
	share  float64
}

// lenience is how a source is looked at: the tier, whether a known one has been
// so since before today, whether one is known by nothing but what it sent within
// the hour since it first came or to role addresses, and whether the domain that
// it names is under attack.
type lenience struct {
	tier   smtp.Tier
	proven bool
	fresh  bool
	halved bool
}

// stranger says whether nothing good is known of the source.
func (l lenience) stranger() bool { return l.tier == smtp.New || l.tier == smtp.Suspect }

// limits returns the rules for a source, the shortest window first. Known
// sources need a hundred, in an hour or a day, at 95 %, trusted ones four times
// as many as new ones, suspects half (ten an hour), and strangers half of theirs
// while the domain is under attack. The absolute number is raised only for who was good before
// today, and the others not for who first came within the hour or wrote to role addresses alone: good
// mail that is sent along with the guesses buys nothing.
func (r Rules) limits(l lenience) [4]limit {
	inHour, inDay, absolute, floor := 1.0, 1.0, 1.0, 0.0
	switch l.tier {
	case smtp.Trusted, smtp.Provider:
		inHour, inDay, absolute = 4, 4, 4
	case smtp.Known:
		if l.fresh {
			break
		}
		inHour, inDay, floor = 4, 2, longShare
		if l.proven {
			absolute = 4
		}
	case smtp.Suspect:
		inHour, inDay, absolute = 0.4, 0.5, 0.5
	}
	if l.halved && l.stranger() {
		inHour, inDay = inHour/2, inDay/2
	}
	return [4]limit{
		{RuleHour, hour, inHour * float64(r.UnknownPerHour), max(floor, r.SharePerHour)},
		{RuleDay, day, inDay * float64(r.UnknownPerDay), max(floor, r.SharePerDay)},
		{RuleWeek, week, inDay * perWeek * float64(r.UnknownPerDay), max(longShare, r.SharePerDay)},
		{RuleAbsolute, day, min(always, absolute*float64(r.AbsolutePerDay)), 0},
	}
}

// ever returns the rule that all a source ever named breaks, "" for none: who
// guesses slower than any window sees is found out in the end (R-BX-13). Against
// his guesses stands the mail that came of him, and not whom he named without.
//
// Today's guesses of who names others, too, are left to the rules of the day. And
// who names so many different recipients that exist that the unknown ones may be
// slips is left to the higher number: all of his mail may have been refused for
// what it says, or he asks before he takes somebody's mail, in his own name, and
// looks just like a guesser who has a list of us.
func (r Rules) ever(l lenience, p *past, t *tally) string {
	bad, good := float64(p.bad), float64(p.good)
	before := bad
	if t.day.share() < r.SharePerDay {
		before -= float64(t.day.unknown)
	}
	slips := float64(t.week.unknown) < typos*float64(t.week.valid)
	switch {
	case r.UnknownPerDay > 0 && !slips && before >= perEver*r.limits(l)[1].count && bad >= max(longShare, r.SharePerDay)*(bad+good):
		return RuleEver
	case r.AbsolutePerDay > 0 && bad >= always && bad >= alwaysShare*(bad+good):
		return RuleAlways
	}
	return ""
}

// strikes is how many closed sessions of a day convict.
func (r Rules) strikes(l lenience) int {
	if l.tier == smtp.Suspect || l.halved && l.stranger() {
		return (r.StrikesPerDay + 1) / 2
	}
	return r.StrikesPerDay
}
