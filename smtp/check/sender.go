package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Sender refuses a MAIL FROM that is no RFC 5321 path.
type Sender struct{}

// Judge implements smtp.Judge.
func (Sender) Judge(f *smtp.Facts) smtp.Verdict {
	switch f.MailForm {
	case smtp.GoodForm:
		return pass
	case smtp.Needs8Bit:
		return refuse(reply.UTF8, "sender")
	}
	return refuse(reply.SenderSyntax, string(f.MailForm))
}
