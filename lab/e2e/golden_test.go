package e2e

import (
	"strings"
	"testing"

	"mailweir/lab"
)

// goldenSettings have every check on, and refuse for each.
const goldenSettings = `hostname = "mx1.example.com"

[greylist]
mode = "all"

[checks]
profile = "strict"
reject_score = 1

[checks.set]
early_talk = "reject"
pipelining = "reject"
bare_line_ends = "reject"
command_order = "reject"
rdns_missing = "reject"
rdns_error = "reject"
rdns_mismatch = "reject"
rdns_generic = "reject"
rdns_generic_cc = "reject"
rdns_dynamic = "reject"
dnsbl = "reject"
rhsbl = "reject"
helo_ours = "reject"
helo_address = "reject"
helo_literal = "reject"
helo_unresolvable = "reject"
sender_nxdomain = "reject"
sender_null_mx = "reject"
sender_no_mx = "reject"
sender_domain_error = "reject"
sender_is_recipient = "reject"
sender_local = "reject"
spf_fail = "reject"
spf_softfail = "reject"
spf_temperror = "reject"
spf_permerror = "reject"
dkim_fail = "reject"
dmarc_reject = "reject"
dmarc_quarantine = "reject"
dmarc_temperror = "reject"
no_author = "reject"

[geo]
reject = ["KP"]

[dnsbl.bl]
zone = "bl.example"
scores = { "127.0.0.2" = 8 }

[dnsbl.dbl]
zone = "dbl.example"
kind = "domain"
scores = { "127.0.1.2" = 8 }

[backend.office]
url = "smtp://192.0.2.10:25"
tls = "off"

[domain."example.com"]
backends = ["office"]
`

// R-BW-07: a well-behaved server with all in order, which speaks TLS, waits for
// the greeting and signs what it sends, gets through with every check set to
// refuse, and with the greylist on, on its first retry behind the delay. A listed
// one beside it does not.
func TestGoldenSender(t *testing.T) {
	t.Parallel()
	s := &site{Lab: lab.New(t)}
	key, record, err := lab.DKIMKey("s1._domainkey.golden.example.")
	if err != nil {
		t.Fatal(err)
	}
	s.dns = s.Host("ns", "192.0.2.53").DNS(
		"example.com. MX 10 mx1.example.com.", "mx1.example.com. A 192.0.2.25", "test.dbl.example. A 127.0.1.2",
		"golden.example. MX 10 mail.golden.example.", "mail.golden.example. A 198.51.100.7", "7.100.51.198.in-addr.arpa. PTR mail.golden.example.",
		`golden.example. TXT "v=spf1 mx -all"`, `_dmarc.golden.example. TXT "v=DMARC1; p=reject; aspf=s; adkim=s"`, record,
		"listed.example. MX 10 mail.listed.example.", "mail.listed.example. A 198.51.100.8", "8.100.51.198.in-addr.arpa. PTR mail.listed.example.",
	)
	bl := s.Host("bl", "192.0.2.54")
	bl.DNSBL("bl.example", "198.51.100.8 :127.0.0.2:spam source")
	s.dns.Delegate("bl.example", bl)
	s.office = s.Host("office", "192.0.2.10")
	s.postfix = s.office.Postfix(lab.PostfixOptions{Users: []string{anna}})
	s.edge = s.Host("mx1", edge4.Addr().String())
	s.weir = s.edge.Weir(goldenSettings)
	s.sender = s.Host("golden", "198.51.100.7")
	s.sender.OpenDKIMSigner("golden.example", key)
	golden := pool{domain: "golden.example", Outbound: s.sender.Outbound("postfix", "mail.golden.example", lab.OutboundOptions{
		Main: []string{"non_smtpd_milters = " + lab.OpenDKIMMilter, "smtp_tls_security_level = encrypt"},
	})}
	listed := s.Host("listed", "198.51.100.8")
	s.Eventually(patience, "the lists are asked", func() bool {
		out, _ := s.weir.Cmd(t.Context(), "status", "--json") // exit 1: something is wrong
		return !strings.Contains(out, "under way")
	})

	s.send(t, golden, 1)
	s.Eventually(patience, "it is put off", func() bool { off, _ := s.came(golden); return off == 1 })
	s.later(t, 10)
	if err := golden.Flush(); err != nil {
		t.Fatal(err)
	}
	file := s.delivered(anna, "<1@golden.example>")
	for _, want := range []string{
		"iprev=pass", "spf=pass smtp.mailfrom=x@golden.example", "dkim=pass header.d=golden.example", "dmarc=pass header.from=golden.example",
		"X-Mailweir-Score: 0\n", "with ESMTPS (TLS",
	} {
		if !strings.Contains(file, want) {
			t.Errorf("no %q in\n%.2500s", want, file)
		}
	}
	if off, heard := s.came(golden); off != 1 || heard != 1 {
		t.Errorf("it was put off %d times, and heard %d times", off, heard)
	}
	said, _ := listed.Run(t.Context(), "/usr/bin/swaks", "--server", "192.0.2.25", "--helo", "mail.listed.example", // exits by the reply
		"--from", "x@listed.example", "--to", anna)
	if want := "554 5.7.1 Your address is on a block list: 198.51.100.8 is listed by bl (127.0.0.2)"; !strings.Contains(said, want) {
		t.Errorf("who is listed does not hear %q:\n%s", want, said)
	}
}
