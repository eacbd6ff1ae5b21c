package check

import (
	"cmp"
	"fmt"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// Greylist is who has to come back, and when. The zero Greylist is off.
type Greylist struct {
	Mode  GreylistMode
	Terms greylist.Terms
}

// GreylistMode says whose first contact is put off.
type GreylistMode string

// The modes.
const (
	GreylistOff        GreylistMode = "off"
	GreylistSuspicious GreylistMode = "suspicious" // strangers with a score, and suspects
	GreylistAll        GreylistMode = "all"        // all strangers
)

// With is g with what own has in place of it, as a domain may.
func (g Greylist) With(own Greylist) Greylist {
	g.Mode = cmp.Or(own.Mode, g.Mode)
	g.Terms.Delay = cmp.Or(own.Terms.Delay, g.Terms.Delay)
	g.Terms.Window = cmp.Or(own.Terms.Window, g.Terms.Window)
	g.Terms.Pass = cmp.Or(own.Terms.Pass, g.Terms.Pass)
	return g
}

// putOff is the score from which a stranger is suspicious.
const putOff = 1

var _ smtp.Greylister = Greylist{}

// Asks implements smtp.Greylister. Who is known, trusted or protected never
// waits, postmaster is always there, and the null sender's notifications may
// have nobody who sends them again.
//
// Nobody is put off of whom his name or SPF could not be learnt by our own fault:
// he may have been here under them before (R-CX-03). A stranger with a score is
// spared by SPF together with a name of its own.
func (g Greylist) Asks(f *smtp.Facts, score float64) (greylist.Terms, bool) {
	r := last(f)
	if r == nil || r.Allowed() || !f.Tier.Stranger() || sender(f) == "" || smtp.IsPostmaster(r.To) {
		return g.Terms, false
	}
	if f.RDNS == nil || f.SPF == "" {
		return g.Terms, false
	}
	switch g.Mode {
	case GreylistAll:
		return g.Terms, true
	case GreylistSuspicious:
		return g.Terms, !(f.Vouched() && f.OwnName() != "") && (score >= putOff || f.Tier == smtp.Suspect)
	}
	return g.Terms, false
}

// Judge implements smtp.Judge (R-BW-E06).
func (Greylist) Judge(f *smtp.Facts) smtp.Verdict {
	r := last(f)
	if r == nil || r.Grey == nil {
		return pass
	}
	switch r.Grey.State {
	case greylist.First, greylist.Early:
		v := refuse(reply.Greylisted, "")
		v.Reply = v.Reply.Detail("try again in " + wait(r.Grey.Left))
		v.Detail = fmt.Sprintf("%s, %s to wait since %s", r.Grey.State, wait(r.Grey.Left), r.Grey.Since.UTC().Format(time.RFC3339))
		return v
	}
	v := pass
	v.Detail = string(r.Grey.State)
	return v
}

// wait is a time to wait as people read it, to the next full second: a retry
// after it passes.
func wait(d time.Duration) string {
	seconds := int((d + time.Second - 1) / time.Second)
	switch m, s := seconds/60, seconds%60; {
	case m == 0:
		return fmt.Sprintf("%d s", s)
	case s == 0:
		return fmt.Sprintf("%d min", m)
	default:
		return fmt.Sprintf("%d min %d s", m, s)
	}
}
