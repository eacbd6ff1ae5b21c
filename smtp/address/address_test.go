package address

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestCutPaths(t *testing.T) {
	long := strings.Repeat("x", 64)
	label := strings.Repeat("d", 63)
	for _, tt := range []struct{ name, in, local, domain, rest string }{
		{"plain", "<joe@example.com>", "joe", "example.com", ""},
		{"parameters follow", "<joe@example.com> SIZE=1", "joe", "example.com", " SIZE=1"},
		{"domain is lower-cased, the local part is not", "<Joe@EXAMPLE.Com>", "Joe", "example.com", ""},
		{"dot-string", "<a.b.c@example.com>", "a.b.c", "example.com", ""},
		{"all of atext", "<!#$%&'*+-/=?^_`{|}~@example.com>", "!#$%&'*+-/=?^_`{|}~", "example.com", ""},
		{"quotes that are not needed", `<"joe"@example.com>`, "joe", "example.com", ""},
		{"quoted blanks", `<"joe bloggs"@example.com>`, "joe bloggs", "example.com", ""},
		{"quoted pairs", `<"a\"b\\c\d"@example.com>`, `a"b\cd`, "example.com", ""},
		{"quoted at", `<"a@b"@example.com>`, "a@b", "example.com", ""},
		{"quoted dots", `<".a..b."@example.com>`, ".a..b.", "example.com", ""},
		{"single label", "<joe@localhost>", "joe", "localhost", ""},
		{"underscore in a sender's domain", "<joe@a_b.example.com>", "joe", "a_b.example.com", ""},
		{"IPv4 literal", "<joe@[192.0.2.1]>", "joe", "[192.0.2.1]", ""},
		{"IPv6 literal", "<joe@[ipv6:2001:DB8:0::1]>", "joe", "[IPv6:2001:db8::1]", ""},
		{"IPv4-mapped literal", "<joe@[IPv6:::ffff:192.0.2.1]>", "joe", "[IPv6:::ffff:192.0.2.1]", ""},
		{"longest local part", "<" + long + "@example.com>", long, "example.com", ""},
		{"longest path", "<" + long + "@" + strings.Repeat("d.", 93) + "com>", long, strings.Repeat("d.", 93) + "com", ""},
		{"longest label", "<joe@" + label + ".com>", "joe", label + ".com", ""},
		{"UTF-8 local part", "<jürgen@example.com>", "jürgen", "example.com", ""},
		{"U-label", "<joe@BÜCHER.example>", "joe", "xn--bcher-kva.example", ""},
		{"A-label", "<joe@XN--bcher-kva.example>", "joe", "xn--bcher-kva.example", ""},
		{"ideographic full stop", "<joe@例え。テスト>", "joe", "xn--r8jz45g.xn--zckzah", ""},
		{"sharp s is a letter of its own", "<joe@straße.example>", "joe", "xn--strae-oqa.example", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, rest, err := CutForwardPath(tt.in, true)
			if want := (Mailbox{tt.local, tt.domain}); err != nil || m != want || rest != tt.rest {
				t.Errorf("got %+v, %q, %v, want %+v, %q", m, rest, err, want, tt.rest)
			}
		})
	}
}

// What testers of open relays send, and what tries to become something else at
// a server behind us. None of it may parse as a mailbox of the protected
// domain, example.com.
func TestRelayTricks(t *testing.T) {
	const refused = ""
	for _, tt := range []struct{ in, domain string }{
		{"<victim%example.net@example.com>", "example.com"}, // ours: the percent is a letter of the local part
		{"<example.net!victim@example.com>", "example.com"}, // as is the bang
		{`<"victim@example.net"@example.com>`, "example.com"},
		{`<"victim%example.net"@example.com>`, "example.com"},
		{"<victim@example.net>", "example.net"},
		{"<victim@example.com.example.net>", "example.com.example.net"},
		{"<@example.com:victim@example.net>", refused},
		{"<@example.com,@example.org:victim@example.net>", refused},
		{"<victim@example.net@example.com>", refused},
		{"<victim@example.com@example.net>", refused},
		{"<victim%example.net>", refused},
		{"<example.net!victim>", refused},
		{"<example.com!example.net!victim>", refused},
		{`<"victim@example.net">`, refused},
		{`<victim@example.net"@example.com>`, refused},
		{`<victim"@"example.net@example.com>`, refused},
		{"<victim@example.com.>", refused},
		{"<victim@.example.com>", refused},
		{"<victim@example..com>", refused},
		{"<<victim@example.com>>", refused},
		{"<victim@example.net><joe@example.com>", "example.net"}, // the rest is refused as a parameter
		{"victim@example.com", refused},
		{"<victim@example.com", refused},
		{"<victim@ example.com>", refused},
		{"<victim @example.com>", refused},
		{"< victim@example.com>", refused},
		{"<victim@example.com >", refused},
		{"<victim@example.com,joe@example.com>", refused},
		{"<victim@example.com;joe@example.com>", refused},
		{"<victim@(comment)example.com>", refused},
		{"<(comment)victim@example.com>", refused},
		{"<victim@[example.com]>", refused},
		{"<victim@[127.0.0.1>", refused},
		{"<victim@[127.0.0.1]@example.com>", refused},
		{"<victim@[127.0.0.1]example.com>", refused},
		{"<victim@[127.0.0.01]>", refused},
		{"<victim@[127.1]>", refused},
		{"<victim@127.0.0.1>", refused},
		{"<victim@2130706433>", refused},
		{"<victim@[IPv6:fe80::1%eth0]>", refused},
		{"<victim@[IPv6:192.0.2.1]>", refused},
		{"<victim@[2001:db8::1]>", refused},
		{"<victim@[x400:c=de]>", refused},
		{"<victim@[]>", refused},
		{`<"a> NOTIFY=NEVER <"@y.z>`, refused},
		{`<"a<b"@example.com>`, refused},
		{`<"a\>b"@example.com>`, refused},
		{"<\"a\r\nRCPT TO:<b\"@example.com>", refused},
		{"<a\x00@example.com>", refused},
		{"<\"a\x7f\"@example.com>", refused},
		{"<a\t@example.com>", refused},
		{"<\"a\u0085b\"@example.com>", refused},
		{"<a\xff@example.com>", refused},
		{`<"a@example.com>`, refused},
		{`<"a\"@example.com>`, refused},
		{`<""@example.com>`, refused},
		{"<@example.com>", refused},
		{"<.a@example.com>", refused},
		{"<a.@example.com>", refused},
		{"<a..b@example.com>", refused},
		{"<a@-example.com>", refused},
		{"<a@example-.com>", refused},
		{"<a@exam℀ple.com>", refused}, // maps to a/c
		{"<a@example.com\uff20example.net>", refused},
		{"<>", refused},
		{"", refused},
	} {
		m, _, err := CutForwardPath(tt.in, true)
		if (err != nil) != (tt.domain == refused) || m.Domain != tt.domain {
			t.Errorf("%q: got %+v, %v, want domain %q", tt.in, m, err, tt.domain)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	for _, tt := range []struct {
		in   string
		utf8 bool
		want Kind
	}{
		{"<joe>", true, Unqualified},
		{"<joe@>", true, Unqualified},
		{"<Postmaster>", false, Unqualified},
		{"<jürgen@example.com>", false, EightBit},
		{"<joe@bücher.example>", false, EightBit},
		{"<joe@example.com", false, Syntax},
		{"<joe", false, Syntax},
		{"<" + strings.Repeat("x", 65) + "@example.com>", false, Syntax},
		{"<a@" + strings.Repeat("d", 64) + ".com>", false, Syntax},
		{"<a@" + strings.Repeat("d.", 127) + "com>", false, Syntax},
		{"<" + strings.Repeat("x", 64) + "@" + strings.Repeat("d.", 93) + "come>", false, Syntax}, // 257 with its brackets
	} {
		_, _, err := CutForwardPath(tt.in, tt.utf8)
		var e *Error
		if !errors.As(err, &e) || e.Kind != tt.want {
			t.Errorf("%q: got %v, want kind %d", tt.in, err, tt.want)
		}
	}
}

func TestUnqualifiedKeepsLocalPart(t *testing.T) {
	m, rest, err := CutForwardPath("<PostMaster> X=1", false)
	if m != (Mailbox{Local: "PostMaster"}) || rest != " X=1" || err == nil {
		t.Errorf("got %+v, %q, %v", m, rest, err)
	}
}

func TestReversePath(t *testing.T) {
	srs := strings.Repeat("s", 100)
	for in, want := range map[string]Path{
		"<>":                          {},
		"<joe@example.com>":           {Mailbox{"joe", "example.com"}},
		"<" + srs + "@forwarder.net>": {Mailbox{srs, "forwarder.net"}}, // longer than RFC 5321 promises to take
	} {
		p, err := ParsePath(in, false)
		if err != nil || p != want || p.String() != in || p.IsNull() != (in == "<>") {
			t.Errorf("%q: got %v, %v", in, p, err)
		}
	}
	for _, in := range []string{"<> ", "<>x", "<joe>", "joe@example.com", "", "<" + srs + srs + srs + "@example.com>"} {
		if p, err := ParsePath(in, false); err == nil {
			t.Errorf("%q parses as %v", in, p)
		}
	}
}

func TestStringQuotesAgain(t *testing.T) {
	for in, want := range map[string]string{
		`"joe"@example.com`:         `joe@example.com`,
		`"joe bloggs"@example.com`:  `"joe bloggs"@example.com`,
		`"a\"b\\c\d"@example.com`:   `"a\"b\\cd"@example.com`,
		`"a@b"@example.com`:         `"a@b"@example.com`,
		`"a..b"@example.com`:        `"a..b"@example.com`,
		`joe@[IPV6:2001:DB8::0001]`: `joe@[IPv6:2001:db8::1]`,
	} {
		m, err := ParseMailbox(in, false)
		if err != nil || m.String() != want {
			t.Errorf("%s: got %v, %v, want %s", in, m, err, want)
		}
	}
}

// go-smtp hands the session a local part without its quotes.
func TestParseUnquoted(t *testing.T) {
	for in, want := range map[string]Mailbox{
		`joe bloggs@example.com`: {"joe bloggs", "example.com"},
		`a"b\c@example.com`:      {`a"b\c`, "example.com"},
		`a@b@Example.com`:        {"a@b", "example.com"},
		`jürgen@example.com`:     {"jürgen", "example.com"},
	} {
		if m, err := ParseUnquoted(in); err != nil || m != want {
			t.Errorf("%s: got %+v, %v, want %+v", in, m, err, want)
		}
	}
	for _, in := range []string{"", "joe", "joe@", "@example.com", "a>b@example.com", "a\nb@example.com", "joe@example.com x"} {
		if m, err := ParseUnquoted(in); err == nil {
			t.Errorf("%q parses as %+v", in, m)
		}
	}
}

func TestLongestDomain(t *testing.T) {
	longest := strings.Repeat("d.", 127) + "d"
	if d, err := ParseDomain(longest, false); err != nil || d != longest {
		t.Errorf("%d octets: got %q, %v", len(longest), d, err)
	}
	if d, err := ParseDomain(longest+"d", false); err == nil {
		t.Errorf("%d octets parse as %q", len(longest)+1, d)
	}
}

func TestLiteral(t *testing.T) {
	for in, want := range map[string]string{"a@[192.0.2.1]": "192.0.2.1", "a@[IPv6:2001:db8::1]": "2001:db8::1"} {
		m, err := ParseMailbox(in, false)
		if a, ok := m.Literal(); err != nil || !ok || a != netip.MustParseAddr(want) {
			t.Errorf("%s: got %v, %v", in, a, ok)
		}
	}
	if _, ok := (Mailbox{"a", "example.com"}).Literal(); ok {
		t.Error("a domain is no literal")
	}
}

// What parses, parses again from what String writes, to the same value, and
// can neither end a path nor a line.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"<>", "<joe@example.com> SIZE=1", `<"a\"b c"@[IPv6:2001:db8::1]>`, "<jürgen@bücher.example>",
		`<"a> NOTIFY=NEVER <"@y.z>`, "<@a:b@c>", "<a@xn--bcher-kva.example>", "<joe>", "<a@例え。テスト>",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, smtputf8 bool) {
		p, rest, err := CutReversePath(s, smtputf8)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) {
			t.Fatalf("%q leaves %q", s, rest)
		}
		again, err := ParsePath(p.String(), smtputf8)
		if err != nil || again != p {
			t.Fatalf("%q is %+v, then %q is %+v, %v", s, p, p.String(), again, err)
		}
		if inner := p.Mailbox.String(); strings.ContainsAny(inner, "\r\n\x00<>") || len(inner) > MaxMailbox {
			t.Fatalf("%q writes %q", s, inner)
		}
		if !smtputf8 && (!p.Mailbox.IsASCII() || !isASCII(p.Mailbox.Domain)) {
			t.Fatalf("%q is %+v without SMTPUTF8", s, p)
		}
		if unquoted := p.Mailbox.Local + "@" + p.Mailbox.Domain; !p.IsNull() {
			if m, err := ParseUnquoted(unquoted); err != nil || m != p.Mailbox {
				t.Fatalf("%q unquoted is %+v, %v", unquoted, m, err)
			}
		}
	})
}

func FuzzMailbox(f *testing.F) {
	for _, s := range []string{"joe@example.com", `"a b"@example.com`, "a@[192.0.2.1]", "a@b@c", "jürgen@bücher.example", "joe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMailbox(s, true)
		if err != nil {
			return
		}
		if again, err := ParseMailbox(m.String(), true); err != nil || again != m {
			t.Fatalf("%q is %+v, then %+v, %v", s, m, again, err)
		}
		if d, err := ParseDomain(m.Domain, false); err != nil || d != m.Domain {
			t.Fatalf("domain %q of %q is %q, %v", m.Domain, s, d, err)
		}
	})
}
