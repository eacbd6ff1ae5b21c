package rdns

import (
	"net/netip"
	"strings"
	"testing"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// TestVerdicts are the verdicts in full (R-BW-10, R-BW-14, R-BW-E08, R-BW-E09).
func TestVerdicts(t *testing.T) {
	tests := []struct {
		host, addr string
		want       Verdict
	}{
		{"", "192.0.2.1", Verdict{Class: None}},
		{".", "192.0.2.1", Verdict{Class: None}},
		{"mail.example.com", "192.0.2.1", Verdict{Class: Custom, Pattern: "mailhost:mail"}},
		{"MX1.Hostname.TLD.", "192.0.2.1", Verdict{Class: Custom, Pattern: "mailhost:mx"}},
		{"liverpool.example", "192.0.2.1", Verdict{Class: Custom}},
		{"a.liverpool.example", "192.0.2.1", Verdict{Class: Custom}},
		{"pool-1-2-3-4.x", "1.2.3.4", Verdict{Class: Dynamic, Pattern: "keyword:pool", Address: true, Keyword: "pool"}},
		{"pool-1-2-3-4.x", "", Verdict{Class: Dynamic, Pattern: "keyword:pool", Address: true, Keyword: "pool"}},
		{"abc.dialup.isp.fr", "192.0.2.1", Verdict{Class: Dynamic, Pattern: "keyword:dialup", Country: true, Keyword: "dialup"}},
		{"dialup12.isp.com", "192.0.2.1", Verdict{Class: Dynamic, Pattern: "keyword:dialup", Keyword: "dialup"}},
		{"p5b0c1a2d.dip0.t-ipconnect.de", "91.12.26.45", Verdict{Class: Generic, Pattern: "hex", Address: true, Country: true}},
		{"45.26.12.91.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "octets", Address: true}},
		{"host-091-012-026-045.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "octets", Address: true}},
		{"h091012026045.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "octets", Address: true}},
		{"h91122645.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "glued", Address: true}},
		{"x-1527519789.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "integer", Address: true}},
		{"a-12-26-45.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "octets-3", Address: true}},
		{"91-12-26-45.isp.net", "::ffff:91.12.26.45", Verdict{Class: Generic, Pattern: "octets", Address: true}},
		{"10-20-30-40.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "quad", Address: true}},
		{"abc.dsl.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "word:dsl"}},
		{"2001-db8-a1-b2-c3-d4-e5-f6.isp.net", "2001:db8:a1:b2:c3:d4:e5:f6", Verdict{Class: Generic, Pattern: "groups", Address: true}},
		{"ip-2001-db8-a1-b2--7.isp.net", "2001:db8:a1:b2::7", Verdict{Class: Generic, Pattern: "groups", Address: true}},
		{"20010db800a100b200c300d400e500f6.isp.net", "2001:db8:a1:b2:c3:d4:e5:f6", Verdict{Class: Generic, Pattern: "nibbles", Address: true}},
		{"6.f.0.0.5.e.0.0.4.d.0.0.3.c.0.0.2.b.0.0.1.a.0.0.8.b.d.0.1.0.0.2.isp.net", "2001:db8:a1:b2:c3:d4:e5:f6", Verdict{Class: Generic, Pattern: "nibbles", Address: true}},
		{"mta-70-123-45-67.mailer.example", "70.123.45.67", Verdict{Class: Custom, Pattern: "mailhost:mta"}},
		{"o1.ptr123.sendgrid.net", "168.245.1.2", Verdict{Class: Custom, Pattern: "mailhost:sendgrid.net"}},
		{"149-72-34-12.sendgrid.net", "149.72.34.12", Verdict{Class: Custom, Pattern: "mailhost:sendgrid.net"}},
		{"208.75.123.197.constantcontact.com", "208.75.123.197", Verdict{Class: Custom, Pattern: "mailhost:constantcontact.com"}},
		{"149-72-34-12.emarsys.net.isp.example", "149.72.34.12", Verdict{Class: Generic, Pattern: "octets", Address: true}},
		{"a8-31.smtp-out.amazonses.com", "54.240.8.31", Verdict{Class: Custom, Pattern: "mailhost:smtp"}},
		{"mail-qk1-x62a.google.com", "2607:f8b0:4864:20::62a", Verdict{Class: Custom, Pattern: "mailhost:mail"}},
		{"4938.au3c9n1y3j.net", "91.12.26.45", Verdict{Class: Custom}},
		{"h1x2x3x4.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "quad", Address: true}},
		{"o5.cm-shared.notices.net", "91.12.26.45", Verdict{Class: Custom}},
		{"h5.cm-12.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "word:cm"}},
		{"fritz.lan", "91.12.26.45", Verdict{Class: Generic, Pattern: "word:lan"}},
		{"26-45.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "octets-2"}},
		{"m26-45.isp.net", "91.12.26.45", Verdict{Class: Custom}},
		{"bajb634.bai.pppool.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "word:pppool"}},
		{"mail.broadband.net", "91.12.26.45", Verdict{Class: Custom, Pattern: "mailhost:mail"}},
		{"ws.23412494620175.clnt.isp.net", "91.12.26.45", Verdict{Class: Generic, Pattern: "numbers"}},
		{"mx-ll-110.164.12-34.dynamic.3bb.co.th", "110.164.12.34", Verdict{Class: Dynamic, Pattern: "keyword:dynamic", Address: true, Country: true, Keyword: "dynamic"}},
	}
	for _, c := range tests {
		if got := Classify(c.host, addr(c.addr), DefaultKeywords); got != c.want {
			t.Errorf("%s [%s]\n got %+v\nwant %+v", c.host, c.addr, got, c.want)
		}
	}
}

// TestKeywords: the list is the operator's (R-BW-10).
func TestKeywords(t *testing.T) {
	if got := strings.Join(DefaultKeywords, " "); got != "dynamic pool dialup" {
		t.Errorf("the default keywords are %q", got)
	}
	for _, c := range []struct {
		host, words, keyword string
		class                Class
	}{
		{"pool-7.isp.example", "", "", Generic},
		{"pool-7.isp.example", "dialup", "", Generic},
		{"pool-7.isp.example", "POOL", "pool", Dynamic},
		{"cust-7.isp.example", "cust", "cust", Dynamic},
		{"fritz-box.isp.example", "fritz-box", "fritz-box", Dynamic},
		{"pools.isp.example", "pool", "", Generic},
		{"7.pools.isp.example", "pool", "", Generic},
		{"carpool.city.example", "pool", "", Custom},
		{"poolside.city.example", "pool", "", Custom},
		{"pool-shop.de", "pool", "", Custom},
		{"web.pool-shop.de", "pool", "", Custom},
		{"mail.pool.de", "pool", "pool", Custom},
		{"smtp.dialup-services.de", "dialup", "", Custom},
	} {
		got := Classify(c.host, addr("192.0.2.1"), strings.Fields(c.words))
		want := c.keyword
		if c.class == Custom {
			want = ""
		}
		if got.Class != c.class || got.Keyword != want {
			t.Errorf("%s with %q: %s %q, want %s %q", c.host, c.words, got.Class, got.Keyword, c.class, want)
		}
	}
}

// FuzzClassify: whatever a zone's owner writes is judged, by the same verdict
// each time, and flags are for generic names.
func FuzzClassify(f *testing.F) {
	for _, path := range []string{"testdata/public.tsv", "testdata/schemes.tsv"} {
		for i, r := range corpus(f, path) {
			if i%8 == 0 {
				f.Add(r.host, r.addr.AsSlice(), "pool")
			}
		}
	}
	f.Add(strings.Repeat("1.", 400), []byte{1, 1, 1, 1}, "1")
	f.Add("xn--\xff.\x00..-", []byte{}, "")
	f.Fuzz(func(t *testing.T, host string, raw []byte, keyword string) {
		addr, _ := netip.AddrFromSlice(raw)
		v := Classify(host, addr, []string{keyword})
		if v != Classify(host, addr, []string{keyword}) {
			t.Fatal("judged in two ways")
		}
		if (v.Class == Custom || v.Class == None) && (v.Address || v.Country || v.Keyword != "") {
			t.Fatalf("a flag on a %s name: %+v", v.Class, v)
		}
		if v.Pattern == "" && (v.Class == Generic || v.Class == Dynamic) {
			t.Fatalf("no pattern: %+v", v)
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	rows := corpus(b, "testdata/public.tsv")
	for i := 0; b.Loop(); i++ {
		r := rows[i%len(rows)]
		Classify(r.host, r.addr, DefaultKeywords)
	}
}
