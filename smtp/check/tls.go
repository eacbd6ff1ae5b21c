package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// TLS judges who sends in clear (R-BW-E24), where policy minds.
type TLS struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j TLS) Judge(f *smtp.Facts) smtp.Verdict {
	if f.TLS != "" || exempt(f) {
		return pass
	}
	return j.Policy.failed(reply.TLSRequired, "")
}
