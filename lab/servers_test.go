package lab_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

func TestPostfixTakesMailAndRefusesUnknownUsers(t *testing.T) {
	l := lab.New(t)
	backend := l.Host("backend", "192.0.2.10", "2001:db8::10")
	client := l.Host("client", "198.51.100.7", "2001:db8:7::7")
	p := backend.Postfix(lab.PostfixOptions{Users: []string{"u1@example.com", "u2@example.net"}})

	for _, to := range []string{"192.0.2.10:25", "[2001:db8::10]:25"} {
		c, greeting, err := client.SMTP(t.Context(), netip.Addr{}, netip.MustParseAddrPort(to))
		if err != nil || greeting.Code != 220 {
			t.Fatalf("greeting of %s: %v, %v", to, greeting, err)
		}
		defer c.Close()
		r, err := c.Deliver("a@sender.example", []string{"u1@example.com"}, "Subject: x\r\n\r\nhello "+to+"\r\n")
		if err != nil || r.Code != 250 {
			t.Fatalf("mail by %s: %v, %v\n%s", to, r, err, strings.Join(c.Transcript, "\n"))
		}
		for _, rcpt := range []struct {
			addr string
			code string
		}{
			{"nobody@example.com", "550 5.1.1"},
			{"u1@elsewhere.example", "454 4.7.1"},
			{"u2@example.net", "250 2.1.5"},
		} {
			if _, err := c.Cmd("RSET"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Cmd("MAIL FROM:<>"); err != nil {
				t.Fatal(err)
			}
			r, err := c.Cmd("RCPT TO:<%s>", rcpt.addr)
			if err != nil || !strings.HasPrefix(r.String(), rcpt.code) {
				t.Errorf("RCPT %s: %v, %v, want %s", rcpt.addr, r, err, rcpt.code)
			}
		}
	}
	l.Eventually(10*time.Second, "both mails lie in the maildir", func() bool { return len(p.Mail("u1@example.com")) == 2 })
	b, err := os.ReadFile(p.Mail("u1@example.com")[0])
	if err != nil || !strings.Contains(string(b), "hello ") {
		t.Errorf("delivered: %q, %v", b, err)
	}

	// Killed and started, it still has its mail and takes more.
	p.Kill()
	p.Start()
	c, _, err := client.SMTP(t.Context(), netip.Addr{}, netip.MustParseAddrPort("192.0.2.10:25"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Deliver("", []string{"u1@example.com"}, "Subject: y\r\n\r\nagain\r\n"); err != nil || r.Code != 250 {
		t.Fatalf("after a restart: %v, %v", r, err)
	}
	l.Eventually(10*time.Second, "three mails", func() bool { return len(p.Mail("u1@example.com")) == 3 })
}

func TestDNSAnswersWhatItWasTold(t *testing.T) {
	l := lab.New(t)
	ns := l.Host("ns", "192.0.2.53")
	client := l.Host("client", "198.51.100.7")
	d := ns.DNS(
		"mail.sender.example. A 198.51.100.7",
		"sender.example. MX 10 mail.sender.example.",
		`sender.example. TXT "v=spf1 mx -all"`,
		"7.100.51.198.in-addr.arpa. PTR mail.sender.example.",
	)
	dig := func(args ...string) string {
		out, err := client.Run(t.Context(), "/usr/bin/dig", append([]string{"+noall", "+answer", "+comments", "+time=2"}, args...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"mail.sender.example", "A"}, "198.51.100.7"},
		{[]string{"sender.example", "MX"}, "10 mail.sender.example."},
		{[]string{"sender.example", "TXT"}, `"v=spf1 mx -all"`},
		{[]string{"-x", "198.51.100.7"}, "PTR\tmail.sender.example."},
		{[]string{"-x", "198.51.100.8"}, "NXDOMAIN"},
		{[]string{"www.example.org", "A"}, "NXDOMAIN"},
		{[]string{"sender.example", "AAAA"}, "NOERROR"},
	} {
		if out := dig(test.args...); !strings.Contains(out, test.want) {
			t.Errorf("dig %s: %s, want %s in it", test.args, out, test.want)
		}
	}
	d.Serve("mail.sender.example. A 198.51.100.9")
	if out := dig("mail.sender.example", "A"); !strings.Contains(out, "198.51.100.9") {
		t.Errorf("after the zone changed: %s", out)
	}
}
