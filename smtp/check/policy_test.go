package check

import (
	"net/netip"
	"strings"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

var (
	peer   = netip.MustParseAddr("198.51.100.7")
	edge   = netip.MustParseAddrPort("192.0.2.25:25")
	zen    = List{Name: "zen", Scores: []Range{{[4]byte{127, 0, 0, 2}, [4]byte{127, 0, 0, 7}, 8}}, Lookup: "https://look.example/?q=%{addr}"}
	white  = List{Name: "white", Scores: []Range{{[4]byte{127, 0, 0, 3}, [4]byte{127, 0, 255, 3}, -8}}}
	dbl    = List{Name: "dbl", Domain: true, Scores: []Range{{[4]byte{127, 0, 1, 2}, [4]byte{127, 0, 1, 2}, 8}}}
	policy = Policy{
		MaxRecipients: 10, Hostname: "mx1.example.net", Served: func(d string) bool { return d == "example.com" },
		Lists: []List{zen, white, dbl}, GeoReject: []string{"KP"}, GeoScore: map[string]float64{"AS64500": 3},
	}
)

func on(list, answer, about string) smtp.Listing {
	return smtp.Listing{Name: list, Answer: answer, About: about, Text: "spam source"}
}

func named(state smtp.RDNSState, name, class string) *smtp.RDNS {
	return &smtp.RDNS{Name: name, State: state, Class: class, Pattern: "octets"}
}

// R-BW-08 to R-BW-14, R-BW-24, R-BW-25 and the rows of the catalogue: what each
// check says of its fact under both profiles.
func TestChecksOfPolicy(t *testing.T) {
	for _, c := range []struct {
		name     string
		facts    smtp.Facts
		reason   reply.Reason
		balanced float64 // the score; -1: refused for good, -2: for now
		strict   int     // the reply's code; 0: not refused
	}{
		{"nothing gathered", smtp.Facts{}, "", 0, 0},
		{"R-BW-E05 early talk", smtp.Facts{Slips: []string{"early_talk"}}, reply.EarlyTalk, 4, 554},
		{"R-BW-E05 pipelining", smtp.Facts{Slips: []string{"pipelining"}}, reply.Pipelining, 4, 554},
		{"bare line ends", smtp.Facts{Slips: []string{"bare_lf"}}, reply.BareLineEnds, 0, 0},
		{"order", smtp.Facts{Slips: []string{"bad_order"}}, reply.CommandOrder, 0, 0},
		{"geo reject", smtp.Facts{Country: "KP"}, reply.Geo, -1, 554},
		{"geo score", smtp.Facts{ASN: 64500}, reply.Geo, 3, 0},
		{"R-BW-E12 no PTR", smtp.Facts{RDNS: named(smtp.NoRDNS, "", "none")}, reply.RDNSMissing, -1, 550},
		{"R-BW-E12 DNS failure", smtp.Facts{RDNS: &smtp.RDNS{State: smtp.RDNSFailed}}, reply.RDNSError, -2, 451},
		{"R-BW-E13 mismatch", smtp.Facts{RDNS: named(smtp.Mismatched, "a.example", "custom")}, reply.RDNSMismatch, 2, 550},
		{"R-BW-E09 generic", smtp.Facts{RDNS: named(smtp.Confirmed, "h-198-51-100-7.isp.example", "generic")}, reply.RDNSGeneric, 2, 550},
		{"R-BW-E08 generic cc", smtp.Facts{RDNS: named(smtp.Confirmed, "h-198-51-100-7.isp.nl", "generic")}, reply.RDNSGenericCC, 2, 550},
		{"R-BW-09 dynamic", smtp.Facts{RDNS: named(smtp.Confirmed, "pool-7.isp.example", "dynamic")}, reply.RDNSDynamic, 3, 550},
		{"dynamic outweighs mismatch", smtp.Facts{RDNS: named(smtp.Mismatched, "pool-7.isp.example", "dynamic")}, reply.RDNSDynamic, 3, 550},
		{"custom", smtp.Facts{RDNS: named(smtp.Confirmed, "mail.example", "custom")}, "", 0, 0},
		{"R-BW-E11 listed", smtp.Facts{Lists: []smtp.Listing{on("zen", "127.0.0.4", "")}}, reply.DNSBL, 8, 554},
		{"undocumented answer", smtp.Facts{Lists: []smtp.Listing{on("zen", "127.0.0.99", "")}}, "", 0, 0},
		{"list that is no more", smtp.Facts{Lists: []smtp.Listing{on("gone", "127.0.0.2", "")}}, "", 0, 0},
		{"R-BW-25 allowed", smtp.Facts{Lists: []smtp.Listing{on("zen", "127.0.0.4", ""), on("white", "127.0.9.3", "")}}, reply.DNSBL, 0, 0},
		{"R-BW-E14 domain", smtp.Facts{Lists: []smtp.Listing{on("dbl", "127.0.1.2", "bad.example")}}, reply.RHSBL, 8, 554},
		{"HELO ours", smtp.Facts{HELO: "MX1.example.net"}, reply.HELOOurs, 8, 550},
		{"HELO our address", smtp.Facts{HELO: "[192.0.2.25]"}, reply.HELOOurs, 8, 550},
		{"HELO served, elsewhere", smtp.Facts{HELO: "example.com", HELOName: smtp.HELOOther}, reply.HELOOurs, 8, 550},
		{"HELO served, its own", smtp.Facts{HELO: "example.com", HELOName: smtp.HELOPeer}, "", 0, 0},
		{"HELO address", smtp.Facts{HELO: "198.51.100.7"}, reply.HELOAddress, 3, 550},
		{"HELO literal", smtp.Facts{HELO: "[198.51.100.7]"}, "", 0, 0},
		{"HELO foreign literal", smtp.Facts{HELO: "[203.0.113.9]"}, reply.HELOLiteral, 3, 550},
		{"HELO unresolvable", smtp.Facts{HELO: "a.example", HELOName: smtp.HELOMissing}, reply.HELOUnresolvable, 1, 550},
		{"HELO without dot", smtp.Facts{HELO: "localhost"}, reply.HELOUnresolvable, 1, 550},
		{"HELO not asked", smtp.Facts{HELO: "a.example"}, "", 0, 0},
		{"HELO failed", smtp.Facts{HELO: "a.example", HELOName: smtp.HELOFailed}, "", 0, 0},
		{"R-BW-24 NXDOMAIN", smtp.Facts{Sender: smtp.SenderNXDomain}, reply.SenderNXDomain, -1, 550},
		{"R-BW-E19 null MX", smtp.Facts{Sender: smtp.SenderNullMX}, reply.SenderNullMX, -1, 550},
		{"R-BW-E19 no MX", smtp.Facts{Sender: smtp.SenderNoMX}, reply.SenderNoMX, 0, 550},
		{"R-BW-E19 no MX yet", smtp.Facts{Sender: smtp.SenderNoMXYet}, reply.SenderNoMX, 0, 451},
		{"R-BW-24 sender failed", smtp.Facts{Sender: smtp.SenderFailed}, reply.SenderDomainError, -2, 451},
		{"R-BW-E07 same", smtp.Facts{MailFrom: from("u@office.example"), Rcpts: rcpts(smtp.Recipient{To: "U@office.example"})}, reply.SenderIsRecipient, 3, 550},
		{"forged", smtp.Facts{MailFrom: from("u@example.com")}, reply.SenderLocal, 2, 530},
		{"ours by SPF", smtp.Facts{MailFrom: from("u@example.com"), SPF: "pass"}, "", 0, 0},
		{"SPF fail", smtp.Facts{SPF: "fail"}, reply.SPFFail, 4, 550},
		{"SPF softfail", smtp.Facts{SPF: "softfail"}, reply.SPFSoftfail, 1, 0},
		{"SPF temperror", smtp.Facts{SPF: "temperror"}, reply.SPFTemperror, 0, 451},
		{"SPF permerror", smtp.Facts{SPF: "permerror"}, reply.SPFPermerror, 0, 0},
		{"SPF neutral", smtp.Facts{SPF: "neutral"}, "", 0, 0},
		{"unsigned", authenticated("", ""), "", 0, 0},
		{"DKIM fail", authenticated("", "", "fail", "permerror"), reply.DKIMFail, 0, 0},
		{"DKIM one of two", authenticated("", "", "fail", "pass"), "", 0, 0},
		{"DKIM may hold", authenticated("", "", "fail", "temperror"), "", 0, 0},
		{"DMARC pass", authenticated("pass", "reject"), "", 0, 0},
		{"DMARC reject", authenticated("fail", "reject"), reply.DMARCReject, 4, 550},
		{"DMARC quarantine", authenticated("fail", "quarantine"), reply.DMARCQuarantine, 2, 0},
		{"DMARC none", authenticated("fail", "none"), "", 0, 0},
		{"DMARC temperror", authenticated("temperror", ""), reply.DMARCTemperror, 0, 451},
		{"DMARC broken record", authenticated("permerror", ""), "", 0, 0},
		{"no author", smtp.Facts{Authentication: smtp.Authentication{DMARC: "permerror"}}, reply.NoAuthor, 0, 550},
	} {
		c.facts.Peer, c.facts.Listener = peer, edge
		strict := policy
		strict.Strict = true
		b, s := said(policy, c.facts, c.reason), said(strict, c.facts, c.reason)
		want := map[float64]reply.Action{-1: reply.Reject, -2: reply.Defer}[c.balanced]
		switch {
		case want != "" && b.Action != want, want == "" && c.balanced != b.Score, want == "" && b.Reply.Permanent() && b.Action == reply.Reject:
			t.Errorf("%s: balanced says %s %v, want %v", c.name, b.Action, b.Score, c.balanced)
		}
		refused := s.Action == reply.Reject || s.Action == reply.Defer
		if refused != (c.strict != 0) || refused && s.Reply.Code != c.strict {
			t.Errorf("%s: strict says %s %d, want %d", c.name, s.Action, s.Reply.Code, c.strict)
		}
		c.facts.Tier = smtp.Protected
		if v := said(strict, c.facts, ""); v.Reason != "" {
			t.Errorf("%s: a protected source is judged: %+v", c.name, v)
		}
	}
}

func authenticated(dmarc, policy string, dkim ...string) smtp.Facts {
	a := smtp.Authentication{Author: "client.example", DMARC: dmarc, DMARCPolicy: policy}
	for _, r := range dkim {
		a.DKIM = append(a.DKIM, smtp.Signature{Domain: "client.example", Result: r})
	}
	return smtp.Facts{Authentication: a}
}

// said is the one verdict that has something to say, which must have reason.
func said(p Policy, f smtp.Facts, reason reply.Reason) (v smtp.Verdict) {
	c := p.Chain()
	for _, s := range c.Weigh(&f, c.Peer, c.HELO, c.Sender, c.Content).Said {
		if s.Verdict.Reason == reason && s.Verdict.Reason != "" || reason == "" && s.Verdict.Reason != "" {
			return s.Verdict
		}
	}
	return v
}

func TestTheSumRefuses(t *testing.T) {
	c := policy.Chain()
	f := smtp.Facts{Peer: peer, Slips: []string{"early_talk", "pipelining"}}
	if v := c.Weigh(&f, c.Peer, c.HELO).Verdict; v.Reason != reply.Score || v.Action != reply.Reject || !strings.Contains(v.Reply.Text, "8 of 8: early_talk 4, pipelining 4") {
		t.Errorf("4 and 4 come to %+v", v)
	}
	f = smtp.Facts{Peer: peer, Lists: []smtp.Listing{on("zen", "127.0.0.2", "")}}
	v := c.Weigh(&f, c.Peer).Verdict
	for _, word := range []string{"zen", "127.0.0.2", "spam source", "https://look.example/?q=198.51.100.7"} {
		if v.Reason != reply.DNSBL || !strings.Contains(v.Reply.Text, word) {
			t.Errorf("R-BW-E11, R-BW-21: %q does not have %s", v.Reply.Text, word)
		}
	}
	if !c.Suspects(&f) || c.Suspects(&smtp.Facts{Country: "NL"}) {
		t.Error("who is listed is suspect, and who is not is none")
	}
}

// R-BX-03: the operator's words take the place of ours, whatever the list says.
func TestRefusalInTheOperatorsWords(t *testing.T) {
	p := policy
	l := zen
	l.Reply = "%ip stands on %list with %code, look at %url or ring us"
	p.Lists = []List{l}
	v := said(p, smtp.Facts{Peer: peer, Lists: []smtp.Listing{on("zen", "127.0.0.4", "")}}, reply.DNSBL)
	want := "198.51.100.7 stands on zen with 127.0.0.4, look at https://look.example/?q=198.51.100.7 or ring us"
	if v.Reply.Text != want || v.Reply.Code != 554 {
		t.Errorf("says %d %q", v.Reply.Code, v.Reply.Text)
	}
}

func TestSettings(t *testing.T) {
	f := smtp.Facts{Peer: peer, RDNS: named(smtp.NoRDNS, "", "none")}
	for text, want := range map[string]struct {
		do   reply.Action
		code int
	}{
		"off": {"", 0}, "log": {reply.Log, 550}, "defer": {reply.Defer, 450}, "reject": {reply.Reject, 550}, "5": {reply.Pass, 550},
	} {
		p := policy
		s, _ := reply.ParseSetting(text)
		p.Set = map[string]reply.Setting{"rdns_missing": s}
		if v := said(p, f, reply.RDNSMissing); v.Action != want.do || v.Reply.Code != want.code {
			t.Errorf("%s: %s %d", text, v.Action, v.Reply.Code)
		}
	}
	p := policy // no setting makes a failure to find out final
	p.Set = map[string]reply.Setting{"rdns_error": {Do: reply.Reject}}
	if v := said(p, smtp.Facts{Peer: peer, RDNS: &smtp.RDNS{State: smtp.RDNSFailed}}, reply.RDNSError); v.Reply.Code != 451 || v.Action != reply.Defer {
		t.Errorf("a failure is refused for good: %+v", v)
	}
}
