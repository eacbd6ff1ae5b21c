package check

import (
	"slices"
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
	"mailweir/smtp/wire"
)

// Slips judges one kind of breach of the protocol (R-BW-12), Reason.
type Slips struct {
	Policy Policy
	Reason reply.Reason
}

// breaches are the slips of the wire that each check looks for.
var breaches = map[reply.Reason][]wire.Slip{
	reply.EarlyTalk:    {wire.EarlyTalk},
	reply.Pipelining:   {wire.Pipelining},
	reply.BareLineEnds: {wire.BareLF, wire.BareCR},
	reply.CommandOrder: {wire.BadOrder},
}

// Judge implements smtp.Judge.
func (j Slips) Judge(f *smtp.Facts) smtp.Verdict {
	var found []string
	for _, s := range breaches[j.Reason] {
		if slices.Contains(f.Slips, string(s)) {
			found = append(found, string(s))
		}
	}
	if len(found) == 0 || exempt(f) {
		return pass
	}
	return j.Policy.failed(j.Reason, strings.Join(found, ", "))
}
