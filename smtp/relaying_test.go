package smtp_test

import (
	"fmt"
	"strings"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/check"
)

// tricks are recipients by which open relays were talked into relaying to
// elsewhere.example (R-BW-E17). Some are malformed, some are local parts that
// servers read again; none may be accepted, whatever the backend says to it.
var tricks = []string{
	"<victim@elsewhere.example>",
	"<victim%elsewhere.example@mx.example.net>",
	"<victim%elsewhere.example>",
	"<elsewhere.example!victim>",
	"<office.example!victim@elsewhere.example>",
	"<@office.example:victim@elsewhere.example>",
	"<@office.example,@mx.example.net:victim@elsewhere.example>",
	"<victim@elsewhere.example@office.example>",
	"<\"victim@elsewhere.example\">",
	"<\"victim@elsewhere.example\"@mx.example.net>",
	"<\"victim%elsewhere.example\"@office.example>",
	"<victim%elsewhere.example@office.example>",
	"<elsewhere.example!victim@office.example>",
	"<\"victim@elsewhere.example\"@office.example>",
	"victim@elsewhere.example",
	"victim@elsewhere.example:office.example",
	"<victim@[127.0.0.1]>",
	"<victim@[192.0.2.1]>",
	"<victim@[IPv6:::1]>",
	"<victim@127.0.0.1>",
	"<victim@localhost>",
	"<victim@mx.example.net>",
	"<victim@elsewhere.example.>",
	"<victim@office.example.>",
	"<victim@office.example.elsewhere.example>",
	"<victim@elsewhere.example#office.example>",
	"<victim@elsewhere.example office.example>",
	"<victim@elsewhere.example\\@office.example>",
	"<victim@elsewhere.example> NOTIFY=NEVER <alice@office.example>",
	"<\"alice@office.example> NOTIFY=NEVER <victim\"@elsewhere.example>",
	"<victim@elsewhere.example\t@office.example>",
	"<alice@office.example>,<victim@elsewhere.example>",
	"<<victim@elsewhere.example>>",
	"<@elsewhere.example:alice@office.example>",
	"<>",
}

func TestOpenRelayTricksAreRefused(t *testing.T) {
	if len(tricks) < 20 {
		t.Fatal("R-BW-E17 wants twenty")
	}
	w := newWorld(t, nil)
	w.office.takeAll()
	w.shop.takeAll()
	for _, from := range []string{"spam@elsewhere.example", "alice@office.example", "", "postmaster@mx.example.net"} {
		for _, to := range tricks {
			c := w.dial("127.0.0.1")
			c.open(from)
			if said := c.ask("RCPT TO:"+to, "5"); !strings.Contains(said, "(ref ") {
				t.Errorf("%s: %q has no ref", to, said)
			}
			c.nc.Close()
		}
	}
	if n := len(w.office.taken()) + len(w.shop.taken()); n != 0 {
		t.Errorf("%d messages came through", n)
	}
}

// What does not look like relaying must not be caught by it.
func TestRoutedSpellingsAreTaken(t *testing.T) {
	w := newWorld(t, nil)
	for _, to := range []string{"<alice@office.example>", "<alice@OFFICE.Example>", "<\"alice\"@office.example>", "<postmaster>", "<Postmaster@office.example>"} {
		c := w.dial("127.0.0.1")
		c.open("a@client.example")
		if strings.EqualFold(to, "<Postmaster@office.example>") {
			to = "<postmaster@office.example>"
		}
		c.ask("RCPT TO:"+to, "250 ")
		c.nc.Close()
	}
}

// A client cannot take all memory by recipients that are refused: what is over
// the bound is put off, and at last the session ends.
func TestRefusedRecipientsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	var all strings.Builder
	const kept, most = 100, 2000
	for i := range most + 1 {
		fmt.Fprintf(&all, "RCPT TO:<u%d@elsewhere.example>\r\n", i)
	}
	go c.nc.Write([]byte(all.String()))
	for i := range most {
		if i < kept {
			c.expect("554 5.7.1")
		} else {
			c.expect("452 4.5.3")
		}
	}
	c.expect("421 4.7.0")
	r := w.recorder.wait(t, 0)
	if len(r.Facts.Rcpts) != kept || len(r.Checks) > 100 || r.Outcome != smtp.Rejected {
		t.Errorf("record has %d recipients, %d checks, outcome %s", len(r.Facts.Rcpts), len(r.Checks), r.Outcome)
	}
}

// Who has many refused recipients for a good reason gets its mail through, and
// comes again for the rest.
func TestRefusedRecipientsDoNotStopTheOthers(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	for i := range 100 {
		c.ask(fmt.Sprintf("RCPT TO:<u%d@elsewhere.example>", i), "554 ")
	}
	c.ask("RCPT TO:<bob@office.example>", "452 4.5.3")
	c.ask("DATA", "354 ")
	c.ask("Subject: x\r\n\r\nx\r\n.", "250 ")
	c.ask("MAIL FROM:<a@client.example>", "250 ")
	c.ask("RCPT TO:<bob@office.example>", "250 ")
}

// As many as the operator allows are taken, however many that is.
func TestManyRecipientsAreTaken(t *testing.T) {
	const most = 2500
	w := newWorld(t, func(w *world) { w.opts.Policy.Chain = check.Chain(most) })
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	go c.nc.Write([]byte(strings.Repeat("RCPT TO:<alice@office.example>\r\n", most+1)))
	for range most {
		c.expect("250 2.1.5")
	}
	c.expect("452 4.5.3")
}
