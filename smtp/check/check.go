// Package check has the judges of the mail edge, one file each, and the order
// in which they are asked.
//
// A judge is a pure function of the facts (smtp.Facts) and of what it was made
// with. It looks nothing up and keeps nothing, so that a recorded transaction
// can be judged again, under this policy or another. A fact that was not
// gathered is absent, and a judge that misses one passes. What it refuses with
// is the reply of its reason in the table of smtp/reply.
package check

import (
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Chain returns the judges of this release in their order (R-CX-07): what costs
// nothing first, the oracle's answer last.
func Chain(maxRecipients int) smtp.Chain {
	return smtp.Chain{
		Mail: []smtp.Link{
			{Name: "sender", Judge: Sender{}},
			{Name: "size", Judge: Size{}},
		},
		Rcpt: []smtp.Link{
			{Name: "recipient", Judge: Recipient{}},
			{Name: "relaying", Judge: Relaying{}},
			{Name: "size", Judge: Size{}},
			{Name: "recipients", Judge: Recipients{Max: maxRecipients}},
		},
		Oracle: []smtp.Link{
			{Name: "trap", Judge: Trap{}},
			{Name: "oracle", Judge: Oracle{}},
		},
		Data: []smtp.Link{
			{Name: "size", Judge: Size{}},
			{Name: "loop", Judge: Loop{}},
		},
	}
}

// pass is the verdict of a judge that has nothing against it.
var pass = smtp.Verdict{Action: reply.Pass}

// refuse is the verdict that the table of replies has for a reason.
func refuse(r reply.Reason, detail string) smtp.Verdict {
	row := reply.Of(r)
	return smtp.Verdict{Action: row.Action, Reason: r, Reply: row.Reply, Detail: detail}
}

// last returns the recipient under judgement; nil where there is none.
func last(f *smtp.Facts) *smtp.Recipient {
	if len(f.Rcpts) == 0 {
		return nil
	}
	return &f.Rcpts[len(f.Rcpts)-1]
}
