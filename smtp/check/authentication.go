package check

import (
	"slices"
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// DKIM judges a message that was signed: one signature that holds is enough. Of
// those that nobody looked at it only tells.
type DKIM struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j DKIM) Judge(f *smtp.Facts) smtp.Verdict {
	holds := pass
	if f.Unread > 0 {
		holds.Detail = f.NotRead()
	}
	var failed []string
	for _, s := range f.DKIM {
		switch s.Result {
		case "pass", "temperror":
			return holds // what could not be looked up may hold
		}
		failed = append(failed, strings.TrimSpace(s.Domain+" "+s.Result))
	}
	if len(failed) == 0 || exempt(f) {
		return holds
	}
	if failed = slices.Compact(failed); holds.Detail != "" {
		failed = append(failed, holds.Detail)
	}
	return j.Policy.failed(reply.DKIMFail, strings.Join(failed, ", "))
}

// DMARC judges by what the domain of the From field wants done.
type DMARC struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j DMARC) Judge(f *smtp.Facts) smtp.Verdict {
	switch {
	case exempt(f):
		return pass
	case f.DMARC == "permerror" && f.Author == "":
		return j.Policy.failed(reply.NoAuthor, "")
	case f.DMARC == "temperror":
		return j.Policy.failed(reply.DMARCTemperror, f.Author)
	case f.DMARC == "fail" && f.DMARCPolicy == "reject":
		return j.Policy.failed(reply.DMARCReject, f.Author)
	case f.DMARC == "fail" && f.DMARCPolicy == "quarantine":
		return j.Policy.failed(reply.DMARCQuarantine, f.Author)
	}
	return pass
}
