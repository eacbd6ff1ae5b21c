package scout_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"mailweir/smtp"
)

const letter = "From: Ann <ann@news.sender.example>\r\nSubject: x\r\n\r\nhello\r\n"

// signer has a key in the zone of its domain.
type signer struct {
	domain string
	key    crypto.Signer
}

func (w *world) signer(t testing.TB, domain string) signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.add(t, fmt.Sprintf(`s1._domainkey.%s. 60 TXT "v=DKIM1; k=ed25519; p=%s"`, domain, base64.StdEncoding.EncodeToString(public)))
	return signer{domain, private}
}

// rsaSigner has an RSA key of so many bits there.
func (w *world) rsaSigner(t testing.TB, domain string, bits int) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	w.add(t, fmt.Sprintf(`s1._domainkey.%s. 60 TXT "v=DKIM1; k=rsa; p=" %q`, domain, base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&key.PublicKey))))
	return signer{domain, key}
}

func (s signer) sign(t testing.TB, message string) string {
	t.Helper()
	var b bytes.Buffer
	err := dkim.Sign(&b, strings.NewReader(message), &dkim.SignOptions{
		Domain: s.domain, Selector: "s1", Signer: s.key, HeaderCanonicalization: "relaxed", BodyCanonicalization: "relaxed", HeaderKeys: []string{"From", "Subject"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func content(message string, from ...string) smtp.Content {
	if from == nil {
		from = []string{"Ann <ann@news.sender.example>"}
	}
	return smtp.Content{
		From: from, Signatures: strings.Count(message, "DKIM-Signature:"),
		Message: io.NewSectionReader(strings.NewReader(message), 0, int64(len(message))),
	}
}

func told(a smtp.Authentication) string {
	var list []string
	for _, s := range a.DKIM {
		list = append(list, s.Domain+"="+s.Result)
	}
	return strings.Join(list, " ") + ", " + a.Author + " " + a.DMARC + " " + a.DMARCPolicy
}

// RFC 6376 and RFC 7489, R-CX-03.
func TestContent(t *testing.T) {
	w := newWorld(t, `_dmarc.sender.example. 60 TXT "v=DMARC1; p=reject; sp=quarantine"`,
		`_dmarc.strict.example. 60 TXT "v=DMARC1; p=reject; adkim=s; aspf=s"`, `_dmarc.trying.example. 60 TXT "v=DMARC1; p=reject; pct=10"`,
		`_dmarc.twice.example. 60 TXT "v=DMARC1; p=reject"`, `_dmarc.twice.example. 60 TXT "v=DMARC1; p=none"`, `_dmarc.broken.example. 60 TXT "v=DMARC1; p=what"`)
	own, other := w.signer(t, "mail.sender.example"), w.signer(t, "list.example")
	strict := w.signer(t, "mail.strict.example")
	signed := own.sign(t, letter)
	for _, c := range []struct {
		name    string
		content smtp.Content
		spf     string // RESULT DOMAIN
		want    string
	}{
		{"signed", content(signed), "", "mail.sender.example=pass, news.sender.example pass quarantine"},
		{"signed by two", content(other.sign(t, signed)), "", "list.example=pass mail.sender.example=pass, news.sender.example pass quarantine"},
		{"changed on the way", content(signed + "-- \r\nlist footer\r\n"), "pass list.example", "mail.sender.example=fail, news.sender.example fail quarantine"},
		{"signed by another", content(other.sign(t, letter)), "", "list.example=pass, news.sender.example fail quarantine"},
		{"unsigned, SPF", content(letter), "pass sender.example", ", news.sender.example pass quarantine"},
		{"unsigned, SPF of another", content(letter), "pass list.example", ", news.sender.example fail quarantine"},
		{"unsigned, SPF fails", content(letter), "fail sender.example", ", news.sender.example fail quarantine"},
		{"unsigned, SPF later", content(letter), "temperror sender.example", ", news.sender.example temperror quarantine"},
		{"unsigned, SPF unknown", content(letter), " sender.example", ", news.sender.example  quarantine"},
		{"organisation itself", content(letter, "a@sender.example"), "fail x.example", ", sender.example fail reject"},
		{"strict alignment", content(strict.sign(t, letter), "a@strict.example"), "pass mail.strict.example", "mail.strict.example=pass, strict.example fail reject"},
		{"strict, the same", content(letter, "a@strict.example"), "pass strict.example", ", strict.example pass reject"},
		{"a share", content(letter, "a@trying.example"), "fail x.example", ", trying.example fail quarantine"},
		{"two records", content(letter, "a@twice.example"), "", ", twice.example none "},
		{"broken record", content(letter, "a@broken.example"), "", ", broken.example permerror "},
		{"no record", content(letter, "a@nothing.example"), "", ", nothing.example none "},
		{"no key", content(strings.Replace(signed, "s=s1", "s=s2", 1)), "", "mail.sender.example=permerror, news.sender.example fail quarantine"},
		{"two authors", content(letter, "a@sender.example, b@list.example"), "", ",  permerror "},
		{"two fields", content(letter, "a@sender.example", "b@sender.example"), "", ",  permerror "},
		{"unwieldy", smtp.Content{From: []string{"a@sender.example"}, Signatures: 9, Unwieldy: true}, "", "=permerror, sender.example fail reject"},
	} {
		if spf, domain, ok := strings.Cut(c.spf, " "); ok {
			c.content.SPF, c.content.Domain = spf, domain
		} else {
			c.content.SPF = "none"
		}
		if got := told(w.scout().Content(t.Context(), c.content)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A key that is too short counts for nothing (RFC 8301 section 3.2), and one that
// takes long to reckon with neither; of many signatures the first five count.
func TestKeysWithinBounds(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0") // whoever sends may have another library
	w := newWorld(t, `_dmarc.sender.example. 60 TXT "v=DMARC1; p=reject"`)
	for bits, want := range map[int]string{1023: "permerror", 1024: "pass", 4096: "pass", 4104: "permerror"} {
		a := w.scout().Content(t.Context(), content(w.rsaSigner(t, fmt.Sprintf("k%d.sender.example", bits), bits).sign(t, letter)))
		if len(a.DKIM) != 1 || a.DKIM[0].Result != want {
			t.Errorf("a key of %d bits: %+v, want %s", bits, a.DKIM, want)
		}
	}
}

func TestTheFirstFiveSignaturesCount(t *testing.T) {
	w := newWorld(t, `_dmarc.sender.example. 60 TXT "v=DMARC1; p=reject"`)
	own, other := w.signer(t, "sender.example"), w.signer(t, "list.example")
	outer := func(message string, n int) string {
		for range n {
			message = other.sign(t, message)
		}
		return message
	}
	for n, want := range map[int]string{4: "pass", 5: "fail"} {
		a := w.scout().Content(t.Context(), content(outer(own.sign(t, letter), n)))
		if a.DMARC != want || len(a.DKIM) != 5 || a.Unread != n-4 {
			t.Errorf("behind %d others: %+v, want %s", n, a, want)
		}
	}
}

// A zone that fails is a temporary error; a resolver of ours that is sick is
// nobody's fault.
func TestContentWithoutDNS(t *testing.T) {
	for _, c := range []struct {
		fails string
		sick  bool
		want  string
	}{
		{"_domainkey.sender.example.", false, "sender.example=temperror, news.sender.example temperror reject"},
		{"_dmarc.sender.example.", false, "sender.example=pass, news.sender.example temperror "},
		{".", true, ",   "},
	} {
		w := newWorld(t, `_dmarc.sender.example. 60 TXT "v=DMARC1; p=reject"`)
		signed := w.signer(t, "sender.example").sign(t, letter)
		w.fail(c.fails, c.sick)
		in := content(signed)
		in.SPF = "fail"
		if got := told(w.scout().Content(t.Context(), in)); got != c.want {
			t.Errorf("%q fails: %q, want %q", c.fails, got, c.want)
		}
	}
}

// What strangers send costs little, whatever it is: the library keeps empty
// lines, and its goroutines wait for each other.
func TestSignaturesOfAWildMessageCostLittle(t *testing.T) {
	w := newWorld(t)
	s := w.signer(t, "sender.example")
	signed := strings.Replace(s.sign(t, s.sign(t, letter)), "relaxed/relaxed", "relaxed/simple", 1)
	wild := signed + strings.Repeat("\r\n", 8<<20) + "what nobody signed\r\n"
	before := runtime.NumGoroutine()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	a := w.scout().Content(t.Context(), content(wild))
	runtime.ReadMemStats(&m1)
	if len(a.DKIM) != 2 || a.DKIM[0].Result == "pass" || a.DKIM[1].Result == "pass" {
		t.Errorf("%+v", a)
	}
	if n := m1.TotalAlloc - m0.TotalAlloc; n > 8<<20 {
		t.Errorf("16 MiB of empty lines cost %d octets", n)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines, before %d", n, before)
	}
}

func TestAuthor(t *testing.T) {
	w := newWorld(t)
	for from, want := range map[string]string{
		"a@b.example":                               "b.example",
		`"x@bank.example" <a@B.example>`:            "b.example",
		"=?gb2312?B?1tDOxA==?= <a@b.example>":       "b.example",
		"=?nonsense?Q?=FF?= <a@b.example>":          "b.example",
		"Gr\xfc\xdfe <a@b.example>":                 "b.example",
		"Smith, John <a@b.example>":                 "b.example",
		"a@b.example, c@b.example":                  "b.example",
		"a@bücher.example":                          "xn--bcher-kva.example",
		"a@b.example, c@d.example":                  "",
		"nobody":                                    "",
		"":                                          "",
		"<a@b.example> <c@bank.example>":            "",
		"a@b.example (on behalf of c@bank.example)": "b.example",
	} {
		if got := w.scout().Content(t.Context(), content(letter, from)).Author; got != want {
			t.Errorf("%q: %q, want %q", from, got, want)
		}
	}
}
