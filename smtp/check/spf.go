package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// SPF judges the result of RFC 7208. None, neutral and pass say nothing against
// anybody.
type SPF struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j SPF) Judge(f *smtp.Facts) smtp.Verdict {
	if exempt(f) {
		return pass
	}
	reason, known := map[string]reply.Reason{
		"fail": reply.SPFFail, "softfail": reply.SPFSoftfail, "temperror": reply.SPFTemperror, "permerror": reply.SPFPermerror,
	}[f.SPF]
	if !known {
		return pass
	}
	subject := domainOf(sender(f))
	if subject == "" {
		subject = f.HELO
	}
	return j.Policy.failed(reason, subject)
}
