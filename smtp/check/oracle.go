package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Oracle refuses a recipient that does not exist, and puts off one of whom
// nobody can say it (R-BW-15). The words are the oracle's own where it has some.
type Oracle struct{}

// Judge implements smtp.Judge.
func (Oracle) Judge(f *smtp.Facts) smtp.Verdict {
	r := last(f)
	if r == nil {
		return pass
	}
	var v smtp.Verdict
	switch r.Oracle {
	case smtp.Unknown:
		v = refuse(reply.UnknownUser, r.To)
	case smtp.Unavailable:
		v = refuse(reply.OracleAway, r.To)
	default:
		return pass
	}
	if a := r.Answer; a.Reason != "" && !a.Reply.Positive() && a.Reply.Code != 0 {
		v.Reason, v.Reply = a.Reason, a.Reply
		v.Action = reply.Defer
		if a.Reply.Permanent() {
			v.Action = reply.Reject
		}
	}
	return v
}
