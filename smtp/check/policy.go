package check

import (
	"net/netip"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// DefaultRejectScore is checks.reject_score where nothing else is said.
const DefaultRejectScore = 8

// Policy is what the judges of policy are made with; the zero Policy is that of
// an empty file.
type Policy struct {
	MaxRecipients int
	Strict        bool                     // profile: each failed check refuses by itself
	RejectScore   float64                  // 0: DefaultRejectScore
	Set           map[string]reply.Setting // of single checks, by name
	Lists         []List
	GeoBan        []string // countries (ISO codes) and networks ("AS64500") whose first connection earns a ban
	Greylist      Greylist
	Observe       bool               // of a domain: what would be refused is only told
	GeoReject     []string           // countries (ISO codes) and networks ("AS64500")
	GeoScore      map[string]float64 // the same, with what they add
	Hostname      string             // ours
	Served        func(domain string) bool
}

// List is a DNS list as far as judges look at it: where it is asked, and with
// which key, smtp/scout knows.
type List struct {
	Name   string
	Domain bool // lists domains, not addresses
	Scores []Range
	Lookup string // address of the list's page about an entry, with %{addr} and %{domain}
	Reply  string // in place of our words, with %ip, %list, %code and %url
}

// Range gives the answers from Low to High, in each of their four numbers, a
// score. Only documented answers count: what no range has means nothing
// (RFC 5782 section 2.1).
type Range struct {
	Low, High [4]byte
	Score     float64
}

// Score is what an answer adds; false: the list does not document it.
func (l *List) Score(answer netip.Addr) (float64, bool) {
	for _, r := range l.Scores {
		if r.has(answer) {
			return r.Score, true
		}
	}
	return 0, false
}

func (r *Range) has(answer netip.Addr) bool {
	if !answer.Is4() {
		return false
	}
	for i, n := range answer.As4() {
		if n < r.Low[i] || n > r.High[i] {
			return false
		}
	}
	return true
}

// Chain returns the judges of this release in their order (R-CX-07): who
// connects, what he calls himself, when the recipient is known to exist whom
// the mail is from, and when it is here what it says of that.
func (p Policy) Chain() smtp.Chain {
	c := Chain(p.MaxRecipients)
	if c.RejectScore = p.RejectScore; c.RejectScore == 0 {
		c.RejectScore = DefaultRejectScore
	}
	c.Observe = p.Observe
	if p.Greylist.Mode != "" && p.Greylist.Mode != GreylistOff {
		c.Greylist = p.Greylist
	}
	early := smtp.Link{Name: "early_talk", Judge: Slips{p, reply.EarlyTalk}}
	if len(p.GeoBan) > 0 {
		c.Arrival = []smtp.Link{{Name: "geo", Judge: GeoBan{p}}}
	}
	c.Lists = []smtp.Link{{Name: "lists", Judge: Listed{}}}
	c.Gate = []smtp.Link{early}
	c.Peer = []smtp.Link{
		{Name: "geo", Judge: Geo{p}},
		early,
		{Name: "rdns", Judge: RDNS{p}},
		{Name: "dnsbl", Judge: Lists{p, false}},
	}
	c.HELO = []smtp.Link{
		{Name: "history", Judge: History{p}},
		{Name: "helo", Judge: HELO{p}},
		{Name: "tls", Judge: TLS{p}},
		{Name: "pipelining", Judge: Slips{p, reply.Pipelining}},
		{Name: "bare_line_ends", Judge: Slips{p, reply.BareLineEnds}},
		{Name: "command_order", Judge: Slips{p, reply.CommandOrder}},
	}
	c.Sender = []smtp.Link{
		{Name: "sender", Judge: SenderDomain{p}},
		{Name: "sender_is_recipient", Judge: SenderIsRecipient{p}},
		{Name: "sender_local", Judge: SenderLocal{p}},
		{Name: "spf", Judge: SPF{p}},
		{Name: "rhsbl", Judge: Lists{p, true}},
	}
	c.Content = []smtp.Link{
		{Name: "dkim", Judge: DKIM{p}},
		{Name: "dmarc", Judge: DMARC{p}},
	}
	return c
}

// Setting is what is done when a check fails.
func (p *Policy) Setting(r reply.Reason) reply.Setting {
	row := reply.Of(r)
	if s, ok := p.Set[row.Check]; ok {
		return s
	}
	if p.Strict {
		return row.Strict
	}
	return row.Balanced
}

// exempt says whether the source is none that is judged by what it is: this
// machine, forwarders, whom the operator protects.
func exempt(f *smtp.Facts) bool { return f.Tier == smtp.Protected }

// failed is the verdict on a check that failed, as policy has it.
func (p *Policy) failed(r reply.Reason, detail string) smtp.Verdict {
	return p.weighed(r, detail, 0)
}

// weighed is failed for a check with a weight of its own, which counts unless
// policy says something else.
func (p *Policy) weighed(r reply.Reason, detail string, weight float64) smtp.Verdict {
	set := p.Setting(r)
	v := smtp.Verdict{Action: set.Do, Reason: r, Reply: r.Reply(), Detail: detail}
	switch {
	case set == reply.Off:
		return pass
	case set.Do == reply.Defer:
		v.Reply = v.Reply.Later()
	case set.Do == reply.Reject && v.Reply.Transient():
		v.Action = reply.Defer // a failure to find out is never held against a sender for good
	case set.Do == reply.Pass:
		if v.Score = set.Score; v.Score == 0 {
			v.Score = weight
		}
	}
	return v
}
