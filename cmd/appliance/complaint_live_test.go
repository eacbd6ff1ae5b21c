package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
	"mailweir/record"
)

// complaintsAt is the mailbox of these tests; no sink knows it.
const complaintsAt = "complaints@example.com"

// complaintBench is an edge that reads complaints.
func complaintBench(t *testing.T, keys map[string]string) *keyBench {
	b := newKeyBench(t)
	on := map[string]string{"harvest.complaint_mailbox": `"` + complaintsAt + `"`}
	for k, v := range keys {
		on[k] = v
	}
	b.apply(on)
	return b
}

// spam has a source deliver one message, and returns it as its recipients got it.
func (b *keyBench) spam(from netip.Addr, to ...string) string {
	b.t.Helper()
	c, _ := b.call(from)
	if c == nil {
		b.t.Fatalf("%v is not greeted", from)
	}
	b.names++
	subject := fmt.Sprintf("Subject: offer %d;\r\n", b.names)
	if r, err := c.Deliver("a@bulk.example", to, subject+"\r\nbuy\r\n"); err != nil || r.Code != 250 {
		b.t.Fatalf("the message is not taken: %v, %v", r, err)
	}
	say(c, "QUIT")
	for _, m := range b.first.all() {
		if strings.Contains(m, subject) {
			return m
		}
	}
	b.t.Fatal("the message did not arrive")
	return ""
}

// arf is a feedback report with a message inside.
func arf(kind, recipient, message string) string {
	fields := "Feedback-Type: " + kind + "\r\nUser-Agent: lab/1\r\nVersion: 1\r\n"
	if recipient != "" {
		fields += "Original-Rcpt-To: <" + recipient + ">\r\n"
	}
	return "From: <fbl@isp.example>\r\nTo: <" + complaintsAt + ">\r\nSubject: report\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=feedback-report; boundary=\"b1\"\r\n\r\n" +
		"--b1\r\nContent-Type: text/plain\r\n\r\nA report.\r\n\r\n--b1\r\nContent-Type: message/feedback-report\r\n\r\n" + fields +
		"\r\n--b1\r\nContent-Type: message/rfc822\r\n\r\n" + message + "\r\n--b1--\r\n"
}

// reported sends a report from a stranger and returns what the record says came
// of it.
func (b *keyBench) reported(report string) string {
	b.t.Helper()
	from := b.source()
	c, _ := b.call(from)
	if c == nil {
		b.t.Fatal("the reporter is not greeted")
	}
	if r, err := c.Deliver("fbl@isp.example", []string{complaintsAt}, report); err != nil || r.Code != 250 {
		b.t.Fatalf("the report is not taken: %v, %v", r, err)
	}
	say(c, "QUIT")
	return b.complaintOf(from)
}

func (b *keyBench) complaintOf(from netip.Addr) string {
	b.t.Helper()
	var l record.Line
	if err := json.Unmarshal([]byte(b.cmd("records", "--addr", from.String(), "--limit", "1", "--json")), &l); err != nil {
		b.t.Fatal(err)
	}
	for _, c := range l.Checks {
		if c.Name == "complaint" {
			return c.Detail
		}
	}
	b.t.Fatalf("the record of the report says nothing of it: %+v", l.Checks)
	return ""
}

// free says that a source may still come and speak.
func (b *keyBench) free(from netip.Addr) bool {
	c, r := b.call(from)
	if c == nil || r.Code != 220 {
		return false
	}
	defer c.Close()
	return say(c, "EHLO bulk.example").Code == 250 && !b.dropped(from)
}

// R-BX-08: complaints that come by mail ban their source when they are proven
// and come of so many recipients as harvest.complaints says.
func TestComplaintsByMailBan(t *testing.T) {
	b := complaintBench(t, nil)
	from := b.source()
	for i := range 3 {
		if i > 0 && !b.free(from) {
			t.Fatalf("banned after %d complaints", i)
		}
		to := b.rcpt()
		said := b.reported(arf("abuse", to, b.spam(from, to)))
		if want := fmt.Sprintf(", %v: %d of 3", from, i+1); !strings.HasPrefix(said, "counts: "+to+" about ") || !strings.Contains(said, want) {
			t.Fatalf("the record says %q, want %q in it", said, want)
		}
	}
	if c, _ := b.call(from); c != nil {
		say(c, "EHLO bulk.example")
	}
	if !b.dropped(from) {
		t.Error("three proven complaints ban nobody")
	}
	if out := b.cmd("why", from.String()); !strings.Contains(out, "complaints") {
		t.Errorf("weir why says %s", out)
	}
}

// Promise 3 and smtp-filter.md section 4: what is not proven is taken, and
// counts nothing.
func TestForgedComplaintsBanNobody(t *testing.T) {
	b := complaintBench(t, nil)
	victim, alice, bob := b.source(), b.rcpt(), b.rcpt()
	mail := b.spam(victim, alice)
	id, seal, ok := strings.Cut(sealOf(t, mail), " ")
	if !ok {
		t.Fatal("our Received field has no seal")
	}
	both := b.spam(victim, alice, bob)
	last := seal[len(seal)-1:]
	other := strings.Replace("AB", last, "", 1)[:1]
	for i := range 3 { // each of it as often as would ban
		for what, report := range map[string]string{
			"a forged seal":                      arf("abuse", alice, strings.Replace(mail, seal, seal[:len(seal)-1]+other, 1)),
			"the ref of the 250, without a seal": arf("abuse", alice, strings.Replace(mail, " (seal "+seal+")", "", 1)),
			"a ref that was made up":             arf("abuse", alice, strings.Replace(mail, id, "K7QM-2V9D-4XTR", 1)),
			"the token of another recipient":     arf("abuse", bob, mail),
			"a recipient who got nothing":        arf("abuse", fmt.Sprintf("user-x%d@example.com", i), mail),
			"one of several recipients":          arf("abuse", bob, both),
			"the contrary of a complaint":        arf("not-spam", alice, mail),
			"a message without our field":        arf("abuse", alice, "Received: from x by y\r\nSubject: x\r\n\r\nx\r\n"),
		} {
			if said := b.reported(report); !strings.HasPrefix(said, "counts nothing: ") {
				t.Errorf("%s: the record says %q", what, said)
			}
		}
	}
	if !b.free(victim) {
		t.Fatal("forged complaints ban")
	}
	for range 3 { // a replayed token is one complaint of one recipient
		if said := b.reported(arf("abuse", alice, mail)); !strings.Contains(said, "1 of 3") {
			t.Errorf("the record says %q", said)
		}
	}
	if !b.free(victim) {
		t.Error("one complaint three times bans")
	}
	if out := b.cmd("bans"); !strings.Contains(out, "nobody is banned") {
		t.Errorf("bans: %s", out)
	}
}

// sealOf is the token of the Received field that our edge added.
func sealOf(t *testing.T, mail string) string {
	t.Helper()
	_, rest, ok := strings.Cut(mail, "\tid ")
	token, _, end := strings.Cut(rest, ")")
	if !ok || !end {
		t.Fatalf("no token in %q", mail)
	}
	return strings.Replace(token, "(seal ", "", 1)
}

// What was convicted for is over: reports that were kept convict nobody anew.
func TestComplaintsAreNotUsedTwice(t *testing.T) {
	b := complaintBench(t, map[string]string{"harvest.complaints": "1"})
	from, to := b.source(), b.rcpt()
	report := arf("abuse", to, b.spam(from, to))
	if said := b.reported(report); !strings.Contains(said, "1 of 1") {
		t.Fatalf("the record says %q", said)
	}
	if c, _ := b.call(from); c != nil {
		say(c, "EHLO bulk.example")
	}
	if !b.dropped(from) {
		t.Fatal("a proven complaint bans nobody")
	}
	b.cmd("unban", from.String())
	if said := b.reported(report); said != "counts nothing: the source was convicted since the message came" {
		t.Errorf("the record says %q", said)
	}
	if !b.free(from) {
		t.Error("an old report bans again")
	}
}

// The operator's own servers may say for whom they report.
func TestOwnServersNameTheReporter(t *testing.T) {
	b := complaintBench(t, map[string]string{"smtp.forwarders": `["198.18.0.0/16"]`})
	from, alice, bob := netip.MustParseAddr("203.0.113.1"), b.rcpt(), b.rcpt()
	mail := b.spam(from, alice, bob)
	if said := b.reported(arf("abuse", bob, mail)); !strings.HasPrefix(said, "counts: "+bob) {
		t.Errorf("the record says %q", said)
	}
	if said := b.reported(arf("abuse", "", mail)); !strings.HasPrefix(said, "counts nothing: ") {
		t.Errorf("the record says %q", said)
	}
}

// Ten thousand reports, forged and replayed, are taken and come to one
// complaint; mail goes on meanwhile.
func TestManyReports(t *testing.T) {
	b := complaintBench(t, nil)
	victim, alice := b.source(), b.rcpt()
	mail := b.spam(victim, alice)
	real := arf("abuse", alice, mail)
	forged := arf("abuse", alice, strings.Replace(mail, "(seal ", "(seal A", 1))
	const clients, each = 4, 2500
	wrong := make(chan string, clients)
	for range clients {
		c := b.mustCall()
		go func() { wrong <- sendReports(c, each, real, forged) }()
	}
	for range clients {
		if why := <-wrong; why != "" {
			t.Error(why)
		}
	}
	if !b.arrives(b.first) {
		t.Error("mail does not arrive any more")
	}
	if said := b.reported(real); !strings.Contains(said, "1 of 3") {
		t.Errorf("the record says %q", said)
	}
	if !b.free(victim) {
		t.Error("the reports ban")
	}
}

// sendReports sends n reports on one connection, and says what went wrong.
func sendReports(c *lab.Client, n int, reports ...string) string {
	for i := range n {
		r, err := c.Deliver("fbl@isp.example", []string{complaintsAt}, reports[i%len(reports)])
		if err != nil || r.Code != 250 {
			return fmt.Sprintf("report %d: %v, %v", i, r, err)
		}
	}
	return ""
}

// A trap that is forged as sender: the bounces and callouts of honest servers
// go to it (R-BX-06), and so do confirmations of a newsletter that somebody
// signed it up to. A good name is not lost by that.
func TestTrapsCatchNobodyWhoWasLedThere(t *testing.T) {
	b := complaintBench(t, map[string]string{"harvest.traps": `["user-trap?@example.com"]`})
	bouncer, caller, newsletter := b.source(), b.source(), b.source()
	for i := range 3 {
		for _, from := range []netip.Addr{bouncer, caller} {
			c, _ := b.call(from)
			if c == nil {
				t.Fatalf("%v is not greeted", from)
			}
			if r := say(c, "EHLO out.example", "MAIL FROM:<>", fmt.Sprintf("RCPT TO:<user-trap%d@example.com>", i%2)); r.Code != 550 {
				t.Errorf("a notification to a trap hears %v", r)
			}
			say(c, "QUIT")
		}
	}
	for range 4 { // the newsletter has real readers
		b.spam(newsletter, b.rcpt())
	}
	for i := range 3 {
		b.names550(newsletter, fmt.Sprintf("user-trap%d@example.com", i))
	}
	for who, a := range map[string]netip.Addr{"the bouncing server": bouncer, "the callout": caller, "the newsletter": newsletter} {
		if !b.free(a) {
			t.Errorf("%s is banned", who)
		}
	}
	stranger := b.source() // the twin that nobody led
	b.names550(stranger, "user-trap1@example.com")
	if !b.dropped(stranger) {
		t.Error("who writes to a trap by himself is not banned")
	}
	b.Eventually(10*time.Second, "one is banned", func() bool { return strings.Count(b.cmd("bans", "--json"), "\n") == 1 })
}
