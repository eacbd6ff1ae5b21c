package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"mailweir/lab"
)

// spfCase is a domain with a policy, and what RFC 7208 makes of it for mail of
// 198.51.100.7.
type spfCase struct {
	domain, policy string
	result         string
	code           string // of the reply to RCPT, where the checks of SPF refuse
	more           []string
}

// spfCases are the behaviours that matter, each with its section.
func spfCases() []spfCase {
	chain := func(name string, includes int) (more []string) {
		for i := 1; i < includes; i++ {
			more = append(more, fmt.Sprintf(`i%d.%s. TXT "v=spf1 include:i%d.%s ?all"`, i, name, i+1, name))
		}
		return append(more, fmt.Sprintf(`i%d.%s. TXT "v=spf1 ip4:198.51.100.7 -all"`, includes, name))
	}
	return []spfCase{
		{"pass.example", "v=spf1 ip4:198.51.100.7 -all", "pass", "250", nil},
		{"fail.example", "v=spf1 ip4:203.0.113.1 -all", "fail", "550 5.7.23", nil},
		{"soft.example", "v=spf1 ~all", "softfail", "250", nil},
		{"neutral.example", "v=spf1 ?all", "neutral", "250", nil},
		{"noend.example", "v=spf1 ip4:203.0.113.1", "neutral", "250", nil}, // 4.7
		{"none.example", "", "none", "250", nil},
		// 4.6.4: ten terms that ask, and one more
		{"ten.example", "v=spf1 include:i1.ten.example -all", "pass", "250", chain("ten.example", 10)},
		{"eleven.example", "v=spf1 include:i1.eleven.example -all", "permerror", "550 5.7.24", chain("eleven.example", 11)},
		// 4.6.4: two void look-ups, and one more
		{"void2.example", "v=spf1 a:v1.void2.example a:v2.void2.example ip4:198.51.100.7 -all", "pass", "250", nil},
		{"void3.example", "v=spf1 a:v1.void3.example a:v2.void3.example a:v3.void3.example ip4:198.51.100.7 -all", "permerror", "550 5.7.24", nil},
		// 7: macros, of the address, the sender and the domain
		{"macro-ir.example", "v=spf1 exists:%{ir}.%{v}._spf.%{d} -all", "pass", "250", []string{"7.100.51.198.in-addr._spf.macro-ir.example. A 127.0.0.2"}},
		{"macro-l.example", "v=spf1 exists:%{l}.%{o}.%{i}.%{d1r}._spf.%{d} -all", "pass", "250", []string{"x.macro-l.example.198.51.100.7.macro-l._spf.macro-l.example. A 127.0.0.2"}},
		{"macro-h.example", "v=spf1 include:%{h}._spf.macro-h.example -all", "pass", "250", []string{`mail.sender.example._spf.macro-h.example. TXT "v=spf1 ip4:198.51.100.0/24 -all"`}},
		{"macro-bad.example", "v=spf1 exists:%{q}.example -all", "permerror", "550 5.7.24", nil},
		// 6.1: redirect, which all before it makes void, and which must lead somewhere
		{"redirect.example", "v=spf1 redirect=pass.example", "pass", "250", nil},
		{"redirect-all.example", "v=spf1 -all redirect=pass.example", "fail", "550 5.7.23", nil},
		{"redirect-none.example", "v=spf1 redirect=none.example", "permerror", "550 5.7.24", nil},
		// 5.2: what an include that does not pass means
		{"include-fail.example", "v=spf1 include:fail.example ip4:198.51.100.7 -all", "pass", "250", nil},
		{"include-none.example", "v=spf1 include:none.example ip4:198.51.100.7 -all", "permerror", "550 5.7.24", nil},
		{"include-bad.example", "v=spf1 include:syntax.example -all", "permerror", "550 5.7.24", nil},
		{"include-broken.example", "v=spf1 include:broken.example -all", "temperror", "451 4.7.24", nil},
		// 3.2, 4.6: one record, and no mistake in it
		{"two.example", "v=spf1 ip4:198.51.100.7 -all", "permerror", "550 5.7.24", []string{`two.example. TXT "v=spf1 -all"`}},
		{"other.example", "v=spf1 ip4:198.51.100.7 -all", "pass", "250", []string{`other.example. TXT "v=spf10 -all"`, `other.example. TXT "verification=1"`}},
		{"syntax.example", "v=spf1 ip4:300.1.1.1 ip4:198.51.100.7 -all", "permerror", "550 5.7.24", nil},
		{"late.example", "v=spf1 ip4:198.51.100.7 ipv4:203.0.113.1 -all", "permerror", "550 5.7.24", nil}, // behind what matches
		{"later.example", "v=spf1 ip4:198.51.100.7 -all redirect=a.example redirect=b.example", "permerror", "550 5.7.24", nil},
		{"include-late.example", "v=spf1 include:late.example -all", "permerror", "550 5.7.24", nil},
		{"redirect-late.example", "v=spf1 redirect=late.example", "permerror", "550 5.7.24", nil},
		{"before-late.example", "v=spf1 ip4:198.51.100.7 include:late.example -all", "pass", "250", nil}, // nobody asks for it
		{"split.example", `v=spf1 ip4:198.51" ".100.7 -all`, "pass", "250", nil},                         // 3.3
		// 5: mechanisms that ask
		{"mx.example", "v=spf1 mx -all", "pass", "250", []string{"mx.example. MX 5 mail.sender.example."}},
		{"a.example", "v=spf1 a:mail.sender.example/24 -all", "pass", "250", nil},
		{"ptr.example", "v=spf1 ptr:sender.example -all", "pass", "250", nil},
	}
}

const spfSettings = `
[checks.set]
spf_fail      = "reject"
spf_permerror = "reject"
spf_temperror = "defer"
rdns_missing = "off"
helo_unresolvable = "off"
`

var receivedSPF = regexp.MustCompile(`(?m)^Received-SPF: (\w+) client-ip=198\.51\.100\.7; envelope-from="x@([^"]*)";\n\thelo="mail\.sender\.example"; receiver=mx1\.example\.com; identity=mailfrom$`)

// RFC 7208 as far as it matters, through the product: the reply, the record and
// the Received-SPF field that the backend gets tell the same.
func TestSPFThroughTheProduct(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	records := []string{
		"example.com. MX 10 mx1.example.com.", "mx1.example.com. A 192.0.2.25",
		"sender.example. MX 10 mail.sender.example.", "mail.sender.example. A 198.51.100.7", "7.100.51.198.in-addr.arpa. PTR mail.sender.example.",
	}
	for _, c := range spfCases() {
		records = append(records, c.domain+". MX 10 mail.sender.example.")
		if c.policy != "" {
			records = append(records, c.domain+`. TXT "`+c.policy+`"`)
		}
		records = append(records, c.more...)
	}
	s.dns.Serve(records...)
	s.dns.Delegate("broken.example", s.Host("nobody", "192.0.2.99")) // where no name server is
	s.weir = s.edge.Weir(strings.Replace(fmt.Sprintf(settings, "192.0.2.10:25"),
		settings[strings.Index(settings, "[checks.set]"):strings.Index(settings, "[firewall]")], spfSettings, 1))
	for _, c := range spfCases() {
		t.Run(c.domain, func(t *testing.T) { s.spf(t, c) })
	}
}

func (s *site) spf(t *testing.T, c spfCase) {
	id := "spf@" + c.domain
	said, _ := s.sender.Run(t.Context(), "/usr/bin/swaks", "--server", "192.0.2.25", "--helo", "mail.sender.example", // exits by the reply
		"--from", "x@"+c.domain, "--to", anna, "--header", "Message-ID: <"+id+">", "--local-interface", "198.51.100.7")
	if _, rcpt, _ := strings.Cut(said, "RCPT TO:<"+anna+">\n"); !strings.HasPrefix(strings.TrimLeft(rcpt, "<-* "), c.code) {
		t.Errorf("RCPT hears something else than %s:\n%s", c.code, said)
	}
	type record struct {
		Reason string `json:"reason"`
		SPF    string `json:"spf"`
	}
	var all []record
	s.Eventually(patience, c.domain+" is in the records", func() bool {
		var err error
		if all, err = lab.Objects[record](t.Context(), s.weir, "records", "--sender", "x@"+c.domain); err != nil {
			t.Fatal(err)
		}
		return len(all) > 0
	})
	reason := map[string]string{"550 5.7.23": "spf_fail", "550 5.7.24": "spf_permerror", "451 4.7.24": "spf_temperror"}[c.code]
	if len(all) != 1 || all[0].SPF != c.result || all[0].Reason != reason {
		t.Errorf("the records tell %+v, want one of %s", all, c.result)
	}
	if c.code != "250" {
		return
	}
	if m := receivedSPF.FindStringSubmatch(s.delivered(anna, id)); m == nil || m[1] != c.result || m[2] != c.domain {
		t.Errorf("Received-SPF tells %q, want %s", m, c.result)
	}
}
