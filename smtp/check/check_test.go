package check

import (
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

func from(s string) *string { return &s }

func rcpts(r ...smtp.Recipient) []smtp.Recipient { return r }

var (
	taken   = smtp.Recipient{To: "a@office.example", Route: "office"}
	refused = smtp.Recipient{To: "x@office.example", Route: "office", Reason: reply.UnknownUser}
	next    = smtp.Recipient{To: "b@office.example", Route: "office"}
	shop    = smtp.Recipient{To: "c@shop.example", Route: "shop"}
)

func TestJudges(t *testing.T) {
	busy := smtp.Answer{Reason: reply.RecipientForNow, Reply: reply.Reply{Code: 450, Enhanced: reply.Enhanced{4, 2, 2}, Text: "full"}}
	gone := smtp.Answer{Reason: reply.MailboxDisabled, Reply: reply.MailboxDisabled.Reply()}
	for _, c := range []struct {
		name  string
		judge smtp.Judge
		facts smtp.Facts
		want  reply.Reason
		act   reply.Action
		code  int
	}{
		{"nothing gathered", Sender{}, smtp.Facts{}, "", reply.Pass, 0},
		{"sender syntax", Sender{}, smtp.Facts{MailForm: smtp.BadSyntax}, reply.SenderSyntax, reply.Reject, 501},
		{"sender utf8", Sender{}, smtp.Facts{MailForm: smtp.Needs8Bit}, reply.UTF8, reply.Reject, 553},
		{"no recipient", Recipient{}, smtp.Facts{}, "", reply.Pass, 0},
		{"recipient syntax", Recipient{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Form: smtp.BadSyntax})}, reply.RecipientSyntax, reply.Reject, 501},
		{"unqualified", Recipient{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Form: smtp.Unqualified})}, reply.UnqualifiedRecipient, reply.Reject, 550},
		{"recipient utf8", Recipient{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Form: smtp.Needs8Bit})}, reply.UTF8, reply.Reject, 553},
		{"routed", Relaying{}, smtp.Facts{Rcpts: rcpts(taken)}, "", reply.Pass, 0},
		{"percent hack", Relaying{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{To: "a%b.example@office.example", Route: "office"})}, reply.Relaying, reply.Reject, 554},
		{"bang path", Relaying{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{To: "b.example!a@office.example", Route: "office"})}, reply.Relaying, reply.Reject, 554},
		{"quoted hop", Relaying{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{To: `"a@b.example"@office.example`, Route: "office"})}, reply.Relaying, reply.Reject, 554},
		{"VERP and BATV", Relaying{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{To: "prvs=1+list-a=b.example@office.example", Route: "office"})}, "", reply.Pass, 0},
		{"not routed", Relaying{}, smtp.Facts{Rcpts: rcpts(taken, smtp.Recipient{To: "a@b.example"})}, reply.Relaying, reply.Reject, 554},
		{"first recipient", Recipients{2}, smtp.Facts{Rcpts: rcpts(taken)}, "", reply.Pass, 0},
		{"room for one more", Recipients{2}, smtp.Facts{Rcpts: rcpts(refused, taken, refused, next)}, "", reply.Pass, 0},
		{"too many", Recipients{1}, smtp.Facts{Rcpts: rcpts(taken, next)}, reply.TooManyRecipients, reply.Defer, 452},
		{"other route", Recipients{9}, smtp.Facts{Rcpts: rcpts(taken, shop)}, reply.OtherRoute, reply.Defer, 452},
		{"other route, first refused", Recipients{9}, smtp.Facts{Rcpts: rcpts(refused, shop)}, "", reply.Pass, 0},
		{"bounce", Recipients{9}, smtp.Facts{MailFrom: from(""), Rcpts: rcpts(taken)}, "", reply.Pass, 0},
		{"bounce to two", Recipients{9}, smtp.Facts{MailFrom: from(""), Rcpts: rcpts(taken, next)}, reply.BounceRecipients, reply.Defer, 452},
		{"bounce, first refused", Recipients{9}, smtp.Facts{MailFrom: from(""), Rcpts: rcpts(refused, next)}, "", reply.Pass, 0},
		{"not asked", Oracle{}, smtp.Facts{Rcpts: rcpts(taken)}, "", reply.Pass, 0},
		{"valid", Oracle{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Oracle: smtp.Valid})}, "", reply.Pass, 0},
		{"any", Oracle{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Oracle: smtp.Any})}, "", reply.Pass, 0},
		{"unknown", Oracle{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Oracle: smtp.Unknown})}, reply.UnknownUser, reply.Reject, 550},
		{"unavailable", Oracle{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Oracle: smtp.Unavailable})}, reply.OracleAway, reply.Defer, 451},
		{"for now", Oracle{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Oracle: smtp.Unavailable, Answer: busy})}, reply.RecipientForNow, reply.Defer, 450},
		{"disabled", Oracle{}, smtp.Facts{Rcpts: rcpts(smtp.Recipient{Oracle: smtp.Unavailable, Answer: gone})}, reply.MailboxDisabled, reply.Reject, 550},
		{"no limit", Size{}, smtp.Facts{Size: 1 << 40}, "", reply.Pass, 0},
		{"at the limit", Size{}, smtp.Facts{Limit: 100, Size: 100}, "", reply.Pass, 0},
		{"declared too big", Size{}, smtp.Facts{Limit: 100, Declared: 101}, reply.Size, reply.Reject, 552},
		{"too big", Size{}, smtp.Facts{Limit: 100, Declared: 10, Size: 101}, reply.Size, reply.Reject, 552},
		{"49 hops", Loop{}, smtp.Facts{Hops: 49}, "", reply.Pass, 0},
		{"50 hops", Loop{}, smtp.Facts{Hops: 50}, reply.Loop, reply.Reject, 554},
	} {
		v := c.judge.Judge(&c.facts)
		if v.Action != c.act || v.Reason != c.want || v.Reply.Code != c.code {
			t.Errorf("%s: got %s %q %d, want %s %q %d", c.name, v.Action, v.Reason, v.Reply.Code, c.act, c.want, c.code)
		}
	}
}

// The name of a link is the check that the table of replies names for the
// reasons of its judge: records, [checks.set] and manual then agree.
func TestNamesAgreeWithTheTable(t *testing.T) {
	checks := map[string]bool{}
	for _, row := range reply.Table() {
		checks[row.Check] = true
	}
	c := Chain(100)
	for _, links := range [][]smtp.Link{c.Mail, c.Rcpt, c.Oracle, c.Data} {
		if len(links) == 0 {
			t.Error("a stage has no judges")
		}
		for _, l := range links {
			if !checks[l.Name] {
				t.Errorf("no row of the table has the check %q", l.Name)
			}
		}
	}
}
