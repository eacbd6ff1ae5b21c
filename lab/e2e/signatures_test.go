package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"mailweir/lab"
)

var (
	ourResults   = regexp.MustCompile(`(?m)^Authentication-Results: mx1\.example\.com;(?:\n\t.*)*`)
	theirResults = regexp.MustCompile(`(?m)^Authentication-Results: office\.lab\.example;(?:\n\t.*)*`)
	signature    = regexp.MustCompile(`(?m)^DKIM-Signature:`)
)

// Mail signed by opendkim at Postfix, and by Exim itself, is found good by us,
// and by opendkim at the server behind us: not a byte that is signed was changed,
// in lines and in chunks. What was changed before us both find bad.
func TestSignaturesHoldBehindTheEdge(t *testing.T) {
	t.Parallel()
	s := newSite(t, "smtpd_milters = "+lab.OpenDKIMMilter, "milter_default_action = accept") // it greets before opendkim listens
	s.office.OpenDKIMVerifier("office.lab.example")
	servers := map[string]*lab.Outbound{}
	records := []string{"example.com. MX 10 mx1.example.com.", "mx1.example.com. A 192.0.2.25"}
	for i, name := range []string{"postfix", "exim"} {
		domain, addr := name+".example", fmt.Sprintf("198.51.100.%d", 20+i)
		key, record, err := lab.DKIMKey("s1._domainkey." + domain + ".")
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record, domain+". MX 10 out."+domain+".", "out."+domain+". A "+addr,
			fmt.Sprintf("%d.100.51.198.in-addr.arpa. PTR out.%s.", 20+i, domain),
			domain+`. TXT "v=spf1 ip4:`+addr+` -all"`, "_dmarc."+domain+`. TXT "v=DMARC1; p=reject; adkim=s"`)
		h := s.Host(name, addr)
		servers[name] = h.Outbound(name, "out."+domain, lab.OutboundOptions{

			Main:      map[string][]string{"postfix": {"non_smtpd_milters = " + lab.OpenDKIMMilter}}[name],
			Transport: []string{"dkim_domain = " + domain, "dkim_selector = s1", "dkim_private_key = /etc/dkim.key", "dkim_canon = relaxed"},
		})
		if name == "postfix" {
			h.OpenDKIMSigner(domain, key)
		} else if err := os.WriteFile(servers[name].Root.Path("/etc/dkim.key"), []byte(key), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.dns.Serve(records...)
	s.start("192.0.2.10:25")
	bodies := map[string]string{
		"small": "hello  there \r\n\r\n.dot\r\n",
		"large": strings.Repeat("0123456789abcdef 0123456789abcdef\t0123456789abcdef\r\n", 5000),
	}
	for name, server := range servers {
		for size, body := range bodies {
			id := fmt.Sprintf("<%s@%s.example>", size, name)
			text := strings.Replace(message(id, size, body), "x@sender.example", "x@"+name+".example", 1)
			if err := server.Send("x@"+name+".example", anna, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name := range servers {
		for size := range bodies {
			file := s.delivered(anna, fmt.Sprintf("<%s@%s.example>", size, name))
			s.judged(t, file, name+".example", "pass")
		}
		s.changed(t, name)
	}
}

// judged holds what we and the opendkim behind us say of a message.
func (s *site) judged(t *testing.T, file, domain, result string) {
	t.Helper()
	ours := ourResults.FindString(file)
	for _, want := range []string{"dkim=" + result + " header.d=" + domain, "dmarc=" + result + " header.from=" + domain} {
		if !strings.Contains(ours, want) {
			t.Errorf("%s: we do not say %s:\n%s", domain, want, ours)
		}
	}
	if theirs := theirResults.FindString(file); !strings.Contains(theirs, "dkim="+result) || !strings.Contains(theirs, "header.d="+domain) {
		t.Errorf("%s: opendkim behind us does not say %s:\n%.3000s", domain, result, file)
	}
}

// changed sends what a server had signed once more, with a word changed.
func (s *site) changed(t *testing.T, name string) {
	t.Helper()
	file := s.delivered(anna, "<small@"+name+".example>")
	at := signature.FindStringIndex(file)
	if at == nil {
		t.Fatalf("%s signed nothing:\n%s", name, file)
	}
	text := strings.ReplaceAll(file[at[0]:], "hello", "hullo")
	text = strings.ReplaceAll(text, "<small@", "<changed@")
	c, _, err := s.sender.SMTP(t.Context(), s.sender.Addr(), edge4)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Deliver("", []string{anna}, strings.ReplaceAll(text, "\n", "\r\n")); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	s.judged(t, s.delivered(anna, "<changed@"+name+".example>"), name+".example", "fail")
}
