package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mailweir/lab"
)

// TestMailThroughAndAttackerOut is the whole product in one test, over IPv4 and
// IPv6: real mail arrives, who guesses is dropped, and nobody else is.
func TestMailThroughAndAttackerOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start("192.0.2.10:25")
	for _, test := range []struct {
		family           string
		to               netip.AddrPort
		sender, attacker string
		ban              string
	}{
		{"IPv4", edge4, "198.51.100.7", "203.0.113.66", "203.0.113.66/32"},
		{"IPv6", edge6, "2001:db8:7::7", "2001:db8:66::66", "2001:db8:66::/64"},
	} {
		t.Run(test.family, func(t *testing.T) {
			sender, attacker := netip.MustParseAddr(test.sender), netip.MustParseAddr(test.attacker)
			s.mail(t, sender, test.to, "<before-"+test.family+"@sender.example>")

			guesses := s.harvest(t, s.attacker, attacker, test.to)
			// The default convicts at 25; the answer that convicts may be lost
			// in the reset that follows it.
			// Who comes while the domain is under attack is known sooner.
			if guesses > 30 {
				t.Errorf("%d guesses were answered before the ban, want about 25 at most", guesses)
			}
			s.mustTimeOut(t, s.attacker, attacker, test.to, "banned")
			b, ok := s.ban(t, attacker)
			if !ok || b.Prefix.String() != test.ban || b.Reason != "harvest" || b.Packets == 0 {
				t.Errorf("ban: %+v, %v, want %s for harvest with packets dropped", b, ok, test.ban)
			}
			why, err := s.weir.Cmd(t.Context(), "why", test.attacker)
			if err != nil || !strings.Contains(why, "guess0@example.com") || !strings.Contains(why, "harvest") {
				t.Errorf("weir why %s: %v\n%s", test.attacker, err, why)
			}

			s.mail(t, sender, test.to, "<after-"+test.family+"@sender.example>")
			if out, err := s.weir.Cmd(t.Context(), "unban", test.attacker); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c, greeting, err := s.attacker.SMTP(t.Context(), attacker, test.to)
			if err != nil || greeting.Code != 220 {
				t.Fatalf("after the ban: %v, %v", greeting, err)
			}
			c.Close()
		})
	}
}

// mail has a mail delivered and looks for it behind the edge and in the records.
func (s *site) mail(t *testing.T, from netip.Addr, to netip.AddrPort, id string) {
	t.Helper()
	c, _, err := s.sender.SMTP(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Deliver("x@sender.example", []string{anna, bob}, message(id, "hello", "body\r\n"))
	if err != nil || r.Code != 250 {
		t.Fatalf("mail %s: %v, %v\n%s", id, r, err, strings.Join(c.Transcript, "\n"))
	}
	for _, mailbox := range []string{anna, bob} {
		text := s.delivered(mailbox, id)
		if want := fmt.Sprintf("[%s]", ipTag(from)); !strings.Contains(text, want) {
			t.Errorf("%s: no %s in a Received line:\n%s", id, want, text)
		}
	}
	type record struct {
		Peer      netip.Addr `json:"peer"`
		MessageID string     `json:"message_id"`
		Outcome   string     `json:"outcome"`
		Backend   string     `json:"backend"`
	}
	var last record
	s.Eventually(patience, id+" is in the records", func() bool {
		all, err := lab.Objects[record](t.Context(), s.weir, "records", "--addr", from.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if r.MessageID == id {
				last = r
			}
		}
		return last.MessageID == id
	})
	if last.Outcome != "accepted" || last.Backend != "office" || last.Peer != from {
		t.Errorf("record of %s: %+v", id, last)
	}
}

// ipTag is an address as an address literal has it (RFC 5321 section 4.1.3).
func ipTag(a netip.Addr) string {
	if a.Is6() {
		return "IPv6:" + a.String()
	}
	return a.String()
}
