package check

import (
	"fmt"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Size refuses a message over the limit of the policy or of a recipient's
// route: as soon as it is declared (RFC 1870 section 6.1), else when it is here.
type Size struct{}

// Judge implements smtp.Judge.
func (Size) Judge(f *smtp.Facts) smtp.Verdict {
	size := max(f.Size, f.Declared)
	if f.Limit == 0 || size <= f.Limit {
		return pass
	}
	v := refuse(reply.Size, fmt.Sprintf("%d octets, limit %d", size, f.Limit))
	v.Reply = v.Reply.Detail(fmt.Sprintf("the limit is %d octets", f.Limit))
	return v
}
