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

	// nullDefer of the rule's recipients make the null sender's next unknown
	// one a 451, which a callout repeats and a bounce survives.
	nullDefer = 0.25

	// always is the number of unknown recipients that convicts anybody
	// (R-BX-13), however good his name.
	always = 1000

	// perWeek is how many times the day's count a week may have.
	perWeek   = 3
	weekShare = 0.95
)

// limit is one rule made ready for one source.
type limit struct {
	name   string
	window time.Duration
	count  float64 // weighted distinct unknown recipients, credits taken off
	share  float64
}

// lenience is how a source is looked at: the tier, and whether the domain it
// names is under attack.
type lenience struct {
	tier   smtp.Tier
	halved bool
}

// stranger says whether nothing good is known of the source.
func (l lenience) stranger() bool { return l.tier == smtp.New || l.tier == smtp.Suspect }

// limits returns the rules for a source, the shortest window first. Known
// sources need four times as many at 95 %, trusted ones four times as many,
// suspects half (ten an hour), and strangers half of theirs while the domain is
// under attack.
func (r Rules) limits(l lenience) [4]limit {
	inHour, inDay, floor := 1.0, 1.0, 0.0
	switch l.tier {
	case smtp.Trusted:
		inHour, inDay = 4, 4
	case smtp.Known:
		inHour, inDay, floor = 4, 4, 0.95
	case smtp.Suspect:
		inHour, inDay = 0.4, 0.5
	}
	if l.halved && l.stranger() {
		inHour, inDay = inHour/2, inDay/2
	}
	return [4]limit{
		{RuleHour, hour, inHour * float64(r.UnknownPerHour), max(floor, r.SharePerHour)},
		{RuleDay, day, inDay * float64(r.UnknownPerDay), max(floor, r.SharePerDay)},
		{RuleWeek, week, inDay * perWeek * float64(r.UnknownPerDay), max(weekShare, r.SharePerDay)},
		{RuleAbsolute, day, min(always, inDay*float64(r.AbsolutePerDay)), 0},
	}
}

// strikes is how many closed sessions of a day convict.
func (r Rules) strikes(l lenience) int {
	if l.tier == smtp.Suspect || l.halved && l.stranger() {
		return (r.StrikesPerDay + 1) / 2
	}
	return r.StrikesPerDay
}
