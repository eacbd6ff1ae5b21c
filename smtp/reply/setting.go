package reply

import (
	"slices"
	"strconv"
)

// Setting is what is done when a check fails: nothing, a note in the record, a
// score, or a refusal of its own. The zero Setting is Off.
type Setting struct {
	Do    Action  // "": off; Pass: add Score; Log, Defer, Reject
	Score float64 // of Pass
}

// The settings that have no number.
var (
	Off     = Setting{}
	LogOnly = Setting{Do: Log}

	later   = Setting{Do: Defer}
	refuse  = Setting{Do: Reject}
	weighed = Setting{Do: Pass} // by a weight of its own
)

// Add is the setting that adds to the score.
func Add(score float64) Setting { return Setting{Do: Pass, Score: score} }

// ParseSetting reads "off", "log", "defer", "reject" or a number.
func ParseSetting(s string) (Setting, bool) {
	switch a := Action(s); a {
	case "off":
		return Off, true
	case Log, Defer, Reject:
		return Setting{Do: a}, true
	}
	n, err := strconv.ParseFloat(s, 64)
	return Add(n), err == nil && n >= -100 && n <= 100
}

func (s Setting) String() string {
	switch {
	case s == Off:
		return "off"
	case s == weighed:
		return "by its weight"
	case s.Do == Pass:
		return "score " + strconv.FormatFloat(s.Score, 'f', -1, 64)
	}
	return string(s.Do)
}

// Later is r as a reply for the time being: what 5xx says for good, 4xx says
// for now, in the same words. 450 is to 550 what 451 is to any other.
func (r Reply) Later() Reply {
	if !r.Permanent() {
		return r
	}
	if r.Code -= 100; r.Code != 450 {
		r.Code = 451
	}
	if r.Enhanced[0] == 5 {
		r.Enhanced[0] = 4
	}
	return r
}

// Settable are the names that [checks.set] knows, in the order of the table.
func Settable() (names []string) {
	for _, row := range table {
		if row.Settable && row.Reason != Score && !slices.Contains(names, row.Check) {
			names = append(names, row.Check)
		}
	}
	return names
}

// fixed is a row whose action is no matter of policy.
func fixed(check string, reason Reason, alias string, do Action, r Reply, help string) Row {
	return Row{Check: check, Reason: reason, Alias: alias, Action: do, Reply: r, Help: help}
}

// judged is the row of a check of policy, whose name is that of its reason.
func judged(reason Reason, alias string, balanced, strict Setting, r Reply, help string) Row {
	row := fixed(string(reason), reason, alias, Reject, r, help)
	if r.Transient() {
		row.Action = Defer
	}
	row.Settable, row.Balanced, row.Strict = true, balanced, strict
	return row
}
