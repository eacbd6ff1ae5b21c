package check

import (
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/reply"
)

// Listed judges by the operator's lists (R-BW-E03, R-BW-E04, R-BW-E15,
// R-BW-E18). Who wrote an entry, and why, the operator reads, and never the
// sender.
type Listed struct{}

// blockedBy is the reason of an entry by what it looks at.
var blockedBy = map[access.Kind]reply.Reason{
	access.Address: reply.Blocked, access.RDNS: reply.BlockedName, access.HELO: reply.BlockedName,
	access.From: reply.BlockedSender, access.To: reply.BlockedRecipient,
}

// Judge implements smtp.Judge. Of this machine and the operator's own
// forwarders, hosts are not blocked.
func (Listed) Judge(f *smtp.Facts) smtp.Verdict {
	r := last(f)
	if r == nil || r.Listed == nil {
		return pass
	}
	e := r.Listed
	host := e.Subject.Kind != access.From && e.Subject.Kind != access.To
	provided := e.Subject.Kind == access.Address && e.To == "" && f.Tier == smtp.Provider
	if e.Action == access.Allow || host && exempt(f) || provided {
		v := pass
		v.Detail = e.Told()
		return v
	}
	if e.Subject.Kind == access.To && !e.Until.IsZero() {
		return refuse(reply.HeldRecipient, e.Told())
	}
	return refuse(blockedBy[e.Subject.Kind], e.Told())
}
