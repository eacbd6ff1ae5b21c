package harvest

import (
	"time"

	"mailweir/smtp"
)

// Rules are the thresholds for a new source; Watch derives those of the other
// tiers from them. The zero Rules convict nobody: use Default.
type Rules struct {
	UnknownPerHour int     // distinct unknown recipients in an hour that convict …
	SharePerHour   float64 // … when at least this share (0 to 1) of the distinct ones is unknown
	UnknownPerDay  int
	SharePerDay    float64
	AbsolutePerDay int // distinct never-valid recipients in a day that convict whatever the share
}

// Default is what the product starts with (smtp-filter.md section 4).
var Default = Rules{
	UnknownPerHour: 25, SharePerHour: 0.8,
	UnknownPerDay: 50, SharePerDay: 0.9,
	AbsolutePerDay: 300,
}

// Names of the rules, as evidence and records show them.
const (
	RuleHour     = "unknown_per_hour"
	RuleDay      = "unknown_per_day"
	RuleAbsolute = "absolute_per_day"
	RuleNull     = "null_sender_per_hour"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour

	// nullPerHour distinct unknown recipients of the null sender in an hour
	// convict by themselves. It is far above the others since bounces of mail
	// forged in our users' names, and callouts (R-RN-15), look like guesses.
	nullPerHour = 200

	// maxCredits bounds what known recipients buy a source, or a guesser with a
	// bought list of ten thousand good addresses could guess for ever.
	maxCredits = 10
)

// limit is one rule made ready for one tier.
type limit struct {
	name   string
	window time.Duration
	count  float64 // weighted distinct unknown recipients, credits taken off
	share  float64
}

// limits returns the rules for a tier, the shortest window first.
// Known sources need 4 times as many at 95 %, trusted ones 4 times as many,
// suspects less than half.
func (r Rules) limits(t smtp.Tier) [3]limit {
	count, floor := 1.0, 0.0
	switch t {
	case smtp.Trusted:
		count = 4
	case smtp.Known:
		count, floor = 4, 0.95
	case smtp.Suspect:
		count = 0.4
	}
	return [3]limit{
		{RuleHour, hour, count * float64(r.UnknownPerHour), max(floor, r.SharePerHour)},
		{RuleDay, day, count * float64(r.UnknownPerDay), max(floor, r.SharePerDay)},
		{RuleAbsolute, day, max(1, count) * float64(r.AbsolutePerDay), 0},
	}
}
