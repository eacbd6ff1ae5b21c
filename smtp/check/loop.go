package check

import (
	"fmt"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// maxHops is how many Received headers a message may bring. RFC 5321 section
// 6.3 asks for a threshold of at least 100, "normally"; mail that is not in a
// loop has under twenty, and fifty is where Postfix, Exim and Exchange put it.
const maxHops = 50

// Loop refuses a message that has come through too many hands.
type Loop struct{}

// Judge implements smtp.Judge.
func (Loop) Judge(f *smtp.Facts) smtp.Verdict {
	if f.Hops < maxHops {
		return pass
	}
	return refuse(reply.Loop, fmt.Sprintf("%d Received headers", f.Hops))
}
