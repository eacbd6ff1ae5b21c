// Package e2e tests the appliance as a whole, with real mail servers behind it
// and real kernels below: what goes in at the card must come out in a mailbox,
// or not come in at all.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// site is the usual internet of a test: the appliance with a Postfix behind.
type site struct {
	*lab.Lab
	edge, office, sender, attacker *lab.Host

	dns     *lab.DNS
	postfix *lab.Postfix
	weir    *lab.Weir
}

const (
	anna = "anna@example.com"
	bob  = "bob@example.com"
)

var (
	edge4 = netip.MustParseAddrPort("192.0.2.25:25")
	edge6 = netip.MustParseAddrPort("[2001:db8:25::25]:25")

	attacker4 = netip.MustParseAddr("203.0.113.66")
	attacker6 = netip.MustParseAddr("2001:db8:66::66")
)

// settings are the usual configuration, in which strangers need not wait and
// may come often.
const settings = `hostname = "mx1.example.com"

[smtp]
greet_wait = "0s"
per_source = { open = 100, new_per_minute = 100000 }

[checks.set]                    # strangers of the lab have no names
rdns_missing = "off"
sender_nxdomain = "off"
helo_unresolvable = "off"

[firewall]
xdp_mode = "native"

[backend.office]
url = "smtp://%s"
tls = "off"

[domain."example.com"]
backends = ["office"]
`

// newSite builds it, up to the appliance, which start adds. main are further
// lines of Postfix's main.cf.
func newSite(t *testing.T, main ...string) *site {
	t.Helper()
	s := &site{Lab: lab.New(t)}
	s.dns = s.Host("ns", "192.0.2.53").DNS(
		"example.com. MX 10 mx1.example.com.",
		"mx1.example.com. A 192.0.2.25",
		"mx1.example.com. AAAA 2001:db8:25::25",
		"sender.example. MX 10 mail.sender.example.",
		"mail.sender.example. A 198.51.100.7",
		"mail.sender.example. AAAA 2001:db8:7::7",
		"7.100.51.198.in-addr.arpa. PTR mail.sender.example.",
	)
	s.office = s.Host("office", "192.0.2.10")
	s.postfix = s.office.Postfix(lab.PostfixOptions{Users: []string{anna, bob}, Main: main})
	s.sender = s.Host("sender", "198.51.100.7", "2001:db8:7::7")
	s.attacker = s.Host("attacker", attacker4.String(), attacker6.String(), "203.0.113.0/24")
	s.edge = s.Host("mx1", edge4.Addr().String(), edge6.Addr().String())
	return s
}

// start starts the appliance in front of backend.
func (s *site) start(backend string) {
	s.weir = s.edge.Weir(fmt.Sprintf(settings, backend))
}

// timesOut says whether a connect hears nothing, as one does whose packets are
// dropped.
func timesOut(ctx context.Context, h *lab.Host, from netip.Addr, to netip.AddrPort) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 1200*time.Millisecond) // past the first SYN's repetition
	defer cancel()
	conn, err := h.DialFrom(ctx, from, to)
	if err == nil {
		conn.Close()
		return false, nil
	}
	var late net.Error
	return errors.As(err, &late) && late.Timeout(), err
}

// mustTimeOut fails the test when a connect hears anything at all.
func (s *site) mustTimeOut(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort, when string) {
	t.Helper()
	if silent, err := timesOut(t.Context(), h, from, to); !silent {
		t.Errorf("%s: a connect of %s to %s should time out, and: %v", when, from, to, err)
	}
}

// harvest guesses addresses from an address until the connection is cut, and
// says how many guesses were answered.
func (s *site) harvest(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort) int {
	t.Helper()
	const most = 100
	answered := 0
	for range 20 {
		c, _, err := h.SMTP(t.Context(), from, to)
		if err != nil {
			return answered
		}
		cut, n := guess(t, c, answered, most)
		c.Close()
		if answered += n; cut {
			return answered
		}
		if answered >= most {
			break
		}
	}
	t.Fatalf("%d guesses from %s were answered, and nothing happened", answered, from)
	return 0
}

// guess makes one connection's guesses: cut says that it was broken off.
func guess(t *testing.T, c *lab.Client, from, most int) (cut bool, answered int) {
	t.Helper()
	for _, line := range []string{"EHLO pool.isp.example", "MAIL FROM:<info@sender.example>"} {
		if r, err := c.Cmd("%s", line); err != nil || r.Code != 250 {
			return err != nil, 0
		}
	}
	for from+answered < most {
		r, err := c.Cmd("RCPT TO:<guess%d@example.com>", from+answered)
		switch {
		case err != nil:
			return true, answered
		case r.Code == 421:
			return false, answered
		case r.Code == 451: // a suspect is told nothing any more, and goes on
		case !strings.HasPrefix(r.String(), "550 5.1.1 "):
			t.Fatalf("a guess was answered %v\n%s", r, strings.Join(c.Transcript, "\n"))
		}
		answered++
	}
	return false, answered
}

// message is a mail with an id of its own.
func message(id, subject, body string) string {
	return "From: x@sender.example\r\nTo: " + anna + "\r\nSubject: " + subject + "\r\nMessage-ID: " + id + "\r\n\r\n" + body
}

// delivered waits for the mail with an id to lie in a mailbox, and returns it.
func (s *site) delivered(mailbox, id string) string {
	var found string
	s.Eventually(20*time.Second, id+" lies in the mailbox of "+mailbox, func() bool {
		for _, name := range s.postfix.Mail(mailbox) {
			if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), id) {
				found = string(b)
			}
		}
		return found != ""
	})
	return found
}

// ban is a line of weir bans --json.
type ban struct {
	Prefix  netip.Prefix `json:"prefix"`
	Since   time.Time    `json:"since"`
	Until   time.Time    `json:"until"`
	Reason  string       `json:"reason"`
	Ref     string       `json:"ref"`
	Packets uint64       `json:"packets"`
}

// ban returns the ban that covers an address.
func (s *site) ban(t *testing.T, addr netip.Addr) (ban, bool) {
	t.Helper()
	bans, err := lab.Objects[ban](t.Context(), s.weir, "bans")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bans {
		if b.Prefix.Contains(addr) {
			return b, true
		}
	}
	return ban{}, false
}
