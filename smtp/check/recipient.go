package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Recipient refuses a RCPT TO that is no mailbox, or one that the backend could
// not be told of (RFC 6531 section 3.5 for the internationalised ones).
type Recipient struct{}

// Judge implements smtp.Judge.
func (Recipient) Judge(f *smtp.Facts) smtp.Verdict {
	r := last(f)
	switch {
	case r == nil || r.Form == smtp.GoodForm:
		return pass
	case r.Form == smtp.Needs8Bit:
		return refuse(reply.UTF8, r.To)
	case r.Form == smtp.Unqualified:
		return refuse(reply.UnqualifiedRecipient, r.To)
	}
	return refuse(reply.RecipientSyntax, r.To)
}
