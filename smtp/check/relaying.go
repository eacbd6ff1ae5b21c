package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Relaying refuses a recipient whose domain has no route (R-BW-E17). Nobody is
// exempt: this release sends nothing outwards.
type Relaying struct{}

// Judge implements smtp.Judge.
func (Relaying) Judge(f *smtp.Facts) smtp.Verdict {
	if r := last(f); r != nil && r.Route == "" && !r.Trap { // a domain of traps needs no route
		return refuse(reply.Relaying, r.To)
	}
	return pass
}
