package e2e

import "testing"

// TestTrustingBackendRelaysNothing puts a Postfix behind the appliance that
// relays for it and to which the domain is a local one, the most usual of all:
// it reads victim%elsewhere@ours again as victim@elsewhere, and says yes
// (R-BW-E17).
func TestTrustingBackendRelaysNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t,
		"mynetworks = 127.0.0.0/8 192.0.2.0/24", "virtual_mailbox_domains =",
		"mydestination = example.com", "local_recipient_maps = texthash:/etc/postfix/vmailbox")
	s.start("192.0.2.10:25")
	for to, want := range map[string]int{
		"victim%sender.example@example.com":      554,
		"sender.example!victim@example.com":      554,
		`"victim@sender.example"@example.com`:    554,
		`"victim%sender.example"@example.com`:    554,
		"anna%example.com@example.com":           554,
		"victim@sender.example":                  554,
		"victim%sender.example@sender.example":   554,
		`"anna"@example.com`:                     250,
		anna:                                     250,
		"nobody+sender.example@example.com":      550,
		"prvs=nobody=sender.example@example.com": 550,
	} {
		c, _, err := s.sender.SMTP(t.Context(), s.sender.Addr(), edge4)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"EHLO mail.sender.example", "MAIL FROM:<x@sender.example>"} {
			if r, err := c.Cmd("%s", line); err != nil || r.Code != 250 {
				t.Fatalf("%s: %v, %v", line, r, err)
			}
		}
		if r, err := c.Cmd("RCPT TO:<%s>", to); err != nil || r.Code != want {
			t.Errorf("%s: %v, %v, want %d", to, r, err, want)
		}
		c.Close()
	}
}
