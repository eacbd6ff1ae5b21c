package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Trap refuses a spamtrap, in the very words in which an unknown user is
// refused, so that nobody learns which addresses to leave out (R-BX-07). What
// else it earns, smtp/harvest says.
//
// It stands behind the oracle, so that the answer takes as long as any other,
// and before relaying, since a whole domain of traps needs no route.
type Trap struct{}

// Judge implements smtp.Judge.
func (Trap) Judge(f *smtp.Facts) smtp.Verdict {
	if r := last(f); r != nil && r.Trap {
		return refuse(reply.Trap, r.To)
	}
	return pass
}
