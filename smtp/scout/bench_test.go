package scout_test

import (
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/check"
)

// BenchmarkSession gathers and judges what a session with one mail takes, with
// every answer of DNS kept from before: name, lists, HELO, sender, SPF, and a
// signed message.
func BenchmarkSession(b *testing.B) {
	w := newWorld(b, "7.100.51.198.in-addr.arpa. 9999 PTR mail.sender.example.", "mail.sender.example. 9999 A 198.51.100.7",
		"sender.example. 9999 MX 10 mail.sender.example.", `sender.example. 9999 TXT "v=spf1 a:mail.sender.example -all"`, `_dmarc.sender.example. 9999 TXT "v=DMARC1; p=reject"`)
	signed := w.signer(b, "sender.example").sign(b, "From: a@sender.example\r\nSubject: x\r\n\r\nhello\r\n")
	w.lists.Test(b.Context())
	s, from := w.scout(), "a@sender.example"
	c := check.Policy{MaxRecipients: 100, Hostname: "mx1.example.net", Strict: true}.Chain()
	session := func() smtp.Verdict {
		f := smtp.Facts{Peer: peer, HELO: "mail.sender.example", MailFrom: &from, Rcpts: []smtp.Recipient{{To: "u@office.example", Route: "office"}}}
		f.RDNS, f.Lists = s.Peer(b.Context(), peer)
		f.HELOName, _ = s.HELO(b.Context(), peer, f.HELO)
		spf := smtp.SPF{}
		f.Sender, spf, _ = s.Sender(b.Context(), peer, f.HELO, from)
		f.SPF = spf.Result
		in := content(signed, from)
		in.SPF, in.Domain = f.SPF, "sender.example"
		before := c.Weigh(&f, c.Peer, c.HELO, c.Sender)
		f.Authentication = s.Content(b.Context(), in)
		if f.DMARC != "pass" || f.DKIM[0].Result != "pass" || f.SPF != "pass" || f.Sender != smtp.SenderOK || f.RDNS.State != smtp.Confirmed || before.Score != 0 {
			b.Fatalf("%+v", f)
		}
		return c.Weigh(&f, c.Peer, c.HELO, c.Sender, c.Content).Verdict
	}
	session()
	b.ReportAllocs()
	for b.Loop() {
		session()
	}
}

// BenchmarkJudges is the judging alone, of facts that are there.
func BenchmarkJudges(b *testing.B) {
	from := "a@sender.example"
	f := smtp.Facts{
		Peer: peer, HELO: "mail.sender.example", HELOName: smtp.HELOPeer, MailFrom: &from, Sender: smtp.SenderOK, SPF: "pass",
		RDNS:           &smtp.RDNS{Name: "mail.sender.example", State: smtp.Confirmed, Class: "custom"},
		Rcpts:          []smtp.Recipient{{To: "u@office.example", Route: "office"}},
		Authentication: smtp.Authentication{DKIM: []smtp.Signature{{Domain: "sender.example", Result: "pass"}}, Author: "sender.example", DMARC: "pass"},
	}
	c := check.Policy{MaxRecipients: 100, Hostname: "mx1.example.net"}.Chain()
	b.ReportAllocs()
	for b.Loop() {
		c.Weigh(&f, c.Peer, c.HELO, c.Sender, c.Content)
	}
}
