package check

import (
	"fmt"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Recipients bounds who may share a transaction. It defers the excess only: the
// recipients before it get the message, and the client sends it again for the
// others (RFC 5321 section 4.5.3.1.10).
//
// All must have one route, so that one backend's answer can be ours. The null
// sender has one recipient: what it sends is about one message of one mailbox,
// and who names several with it is guessing.
type Recipients struct{ Max int }

// Judge implements smtp.Judge.
func (j Recipients) Judge(f *smtp.Facts) smtp.Verdict {
	r := last(f)
	if r == nil {
		return pass
	}
	accepted, first := 0, (*smtp.Recipient)(nil)
	for i := range f.Rcpts[:len(f.Rcpts)-1] {
		if f.Rcpts[i].Reason != "" {
			continue
		}
		if accepted++; first == nil {
			first = &f.Rcpts[i]
		}
	}
	switch {
	case accepted == 0:
		return pass
	case first.Route != r.Route:
		return refuse(reply.OtherRoute, fmt.Sprintf("%s, not %s", r.Route, first.Route))
	case f.MailFrom != nil && *f.MailFrom == "":
		return refuse(reply.BounceRecipients, "")
	case accepted >= j.Max:
		return refuse(reply.TooManyRecipients, fmt.Sprintf("%d taken", accepted))
	}
	return pass
}
