package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"mailweir/lab"
)

// speakers are the ways in which they speak. Postfix as a client knows no
// CHUNKING, and OpenSMTPD no PIPELINING either.
var speakers = []struct {
	name, server string
	options      lab.OutboundOptions
	logged       string // by the server, of its way
	tls          bool
}{
	{"postfix", "postfix", lab.OutboundOptions{}, "TLS connection established to mx1.example.com", true},
	{"postfix-plain", "postfix", lab.OutboundOptions{NoTLS: true, NoPipelining: true}, "status=sent", false},
	{"exim", "exim", lab.OutboundOptions{}, " L K C=", true},
	{"exim-data", "exim", lab.OutboundOptions{NoChunking: true}, " L C=", true},
	{"exim-plain", "exim", lab.OutboundOptions{NoTLS: true, NoPipelining: true}, " K C=", false},
	{"opensmtpd", "opensmtpd", lab.OutboundOptions{}, "mta tls ciphers=TLSv1.3", true},
	{"opensmtpd-plain", "opensmtpd", lab.OutboundOptions{NoTLS: true}, `result="Ok"`, false},
}

// mails are bodies that are sent in each way. Lines end as RFC 5322 has them,
// since what a sender mends is no matter of ours.
var mails = []string{
	"hello\r\n",
	".\r\n..\r\n.x\r\n",
	"",
	strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\r\n", 4<<10),
	"QUIT\r\n.\r\nMAIL FROM:<a@b.example>\r\n",
}

// Mail of real servers, with and without TLS, pipelining and chunks, arrives: each
// once, and with its body as it was.
func TestRealServersDeliver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start("192.0.2.10:25")
	fleet := make(map[string]*lab.Outbound)
	for i, sp := range speakers {
		h := s.Host(sp.name, fmt.Sprintf("198.51.100.%d", 20+i))
		fleet[sp.name] = h.Outbound(sp.server, sp.name+".example", sp.options)
		for n, body := range mails {
			text := message(fmt.Sprintf("<%d@%s.example>", n, sp.name), sp.name, body)
			if err := fleet[sp.name].Send("x@"+sp.name+".example", anna, text); err != nil {
				t.Fatalf("%s: %v", sp.name, err)
			}
		}
	}
	for _, sp := range speakers {
		for n, body := range mails {
			file := s.delivered(anna, fmt.Sprintf("<%d@%s.example>", n, sp.name))
			_, got, _ := strings.Cut(file, "\n\n")
			if want := strings.ReplaceAll(body, "\r\n", "\n"); got != want {
				t.Errorf("%s, mail %d: the body is %.200q, want %.200q", sp.name, n, got, want)
			}
			if with := "with ESMTPS (TLS"; strings.Contains(file, with) != sp.tls {
				t.Errorf("%s, mail %d: TLS is told where there was none, or the other way round:\n%.2000s", sp.name, n, file)
			}
		}
		s.Eventually(patience, sp.name+" keeps nothing", func() bool { return fleet[sp.name].Queued() == 0 })
		if log := fleet[sp.name].Log(); !strings.Contains(log, sp.logged) {
			t.Errorf("%s did not speak as it should, no %q in\n%s", sp.name, sp.logged, log)
		}
	}
	s.once(t, len(speakers)*len(mails))
}

// once holds that so many messages lie in the mailbox of anna, none twice.
func (s *site) once(t *testing.T, want int) {
	t.Helper()
	seen := map[string]int{}
	for _, name := range s.postfix.Mail(anna) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(string(b), "\nMessage-ID: ")
		id, _, _ = strings.Cut(id, "\n")
		if seen[id]++; seen[id] > 1 {
			t.Errorf("%s was delivered %d times", id, seen[id])
		}
	}
	if len(seen) != want {
		t.Errorf("%d messages were delivered, want %d", len(seen), want)
	}
}
