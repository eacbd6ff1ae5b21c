package check

import (
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// SenderDomain judges whether anything can be sent back to the domain of MAIL
// FROM (R-BW-24, R-BW-E19).
type SenderDomain struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j SenderDomain) Judge(f *smtp.Facts) smtp.Verdict {
	if exempt(f) {
		return pass
	}
	domain := domainOf(sender(f))
	switch f.Sender {
	case smtp.SenderNXDomain:
		return j.Policy.failed(reply.SenderNXDomain, domain)
	case smtp.SenderNullMX:
		return j.Policy.failed(reply.SenderNullMX, domain)
	case smtp.SenderNoMX:
		return j.Policy.failed(reply.SenderNoMX, domain)
	case smtp.SenderNoMXYet:
		v := j.Policy.failed(reply.SenderNoMX, domain)
		if v.Action == reply.Reject {
			v.Action, v.Reply = reply.Defer, v.Reply.Later()
			v.Reply.Code = 451
		}
		return v
	case smtp.SenderFailed:
		return j.Policy.failed(reply.SenderDomainError, domain)
	}
	return pass
}

// SenderIsRecipient judges mail that comes from outside in the name of its
// recipient (R-BW-E07).
type SenderIsRecipient struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j SenderIsRecipient) Judge(f *smtp.Facts) smtp.Verdict {
	r, from := last(f), sender(f)
	if r == nil || from == "" || exempt(f) || !strings.EqualFold(r.To, from) {
		return pass
	}
	return j.Policy.failed(reply.SenderIsRecipient, from)
}

// SenderLocal judges mail from outside in the name of a domain that we serve.
// Where SPF names the client, the domain's owner wants it so.
type SenderLocal struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j SenderLocal) Judge(f *smtp.Facts) smtp.Verdict {
	domain := domainOf(sender(f))
	if domain == "" || j.Policy.Served == nil || exempt(f) || f.SPF == "pass" || !j.Policy.Served(domain) {
		return pass
	}
	return j.Policy.failed(reply.SenderLocal, domain)
}

// sender is the mailbox of MAIL FROM; "" for none and for the null sender.
func sender(f *smtp.Facts) string {
	if f.MailFrom == nil || f.MailForm != smtp.GoodForm {
		return ""
	}
	return *f.MailFrom
}

func domainOf(mailbox string) string {
	i := strings.LastIndexByte(mailbox, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(mailbox[i+1:])
}
