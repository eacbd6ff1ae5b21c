package smtp_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/authres"

	"mailweir/smtp"
)

// What was found out goes to the backend above our Received field, and the
// message below it is that of the client to the byte.
func TestResultsAreTold(t *testing.T) {
	w := newWorld(t, func(w *world) {
		for key, value := range map[string]string{"spf": "fail", "dkim": "pass", "dmarc": "pass:reject", "class": "dynamic"} {
			w.policy(key, value)
		}
	})
	c := w.dial("127.0.0.1")
	send(c, "a@client.example", "From: a@client.example\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 8000))
	got := w.office.taken()[0].body
	head, rest := splitResults(got)
	want := "Authentication-Results: mx.example.net;\r\n\tiprev=pass policy.iprev=127.0.0.1;\r\n\tspf=fail smtp.mailfrom=a@client.example;\r\n" +
		"\tdkim=pass header.d=client.example;\r\n\tdmarc=pass header.from=client.example\r\n" +
		"Received-SPF: fail client-ip=127.0.0.1; envelope-from=\"a@client.example\";\r\n\thelo=\"client.example\"; receiver=mx.example.net; identity=mailfrom\r\n" +
		"X-Mailweir-Score: 7 (rdns_dynamic 3, spf_fail 4)\r\n"
	if head != want {
		t.Errorf("told\n%s\nwant\n%s", head, want)
	}
	_, message := received(t, rest)
	sent := "From: a@client.example\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 8000)
	if sha256.Sum256(message) != sha256.Sum256([]byte(sent)) {
		t.Errorf("the message was changed: %d octets, sent %d", len(message), len(sent))
	}
	if r := w.recorder.wait(t, 0); r.Facts.DMARC != "pass" || r.Facts.DKIM[0].Domain != "client.example" {
		t.Errorf("record: %+v", r.Facts.Authentication)
	}
}

// Nothing that a stranger says becomes a result of ours.
func TestResultsCannotBeForged(t *testing.T) {
	for _, from := range []string{
		`"a\"; dmarc=pass header.from=bank.example"@client.example`,
		`"a\\"@client.example`, `"; dkim=pass header.d=bank.example;"@client.example`, `"a b"@client.example`, `a=b@client.example`,
	} {
		w := newWorld(t, func(w *world) { w.policy("spf", "fail") })
		c := w.dial("127.0.0.1")
		send(c, from, "Authentication-Results: mx.example.net; dmarc=pass header.from=bank.example\r\n\r\nx\r\n")
		head, rest := splitResults(w.office.taken()[0].body)
		field, _, _ := strings.Cut(strings.TrimPrefix(head, "Authentication-Results: "), "\r\nReceived-SPF")
		_, results, err := authres.Parse(strings.ReplaceAll(field, "\r\n\t", " "))
		if err != nil || len(results) != 2 || strings.Contains(string(rest), "bank.example") {
			t.Errorf("%s: %v, %d results in\n%s%s", from, err, len(results), head, rest)
			continue
		}
		if spf, ok := results[1].(*authres.SPFResult); !ok || !strings.HasSuffix(strings.Trim(spf.From, `"`), "client.example") {
			t.Errorf("%s: %+v", from, results[1])
		}
		w.stop()
	}
}

// Of a source that is not judged nothing is said.
func TestNoResultsOfTheProtected(t *testing.T) {
	w := newWorld(t, func(w *world) { w.policy("spf", "fail") })
	c := w.dial("127.0.0.99")
	send(c, "a@client.example", "Subject: x\r\n\r\nx\r\n")
	received(t, w.office.taken()[0].body)
	if tier := w.recorder.wait(t, 0).Facts.Tier; tier != smtp.Protected {
		t.Errorf("tier %s", tier)
	}
}

// send sends a message to alice, and waits until it is taken.
func send(c *dialogue, from, message string) {
	c.open(from)
	c.ask("RCPT TO:<alice@office.example>", "250 ")
	c.ask("DATA", "354")
	c.send(message + ".\r\n")
	c.expect("250 ")
}

// What weir why shows of a check has the look-up that it waited for.
func TestChecksTellTheirLookups(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.policy("spf", "pass")
		w.opts.Policy.Scout.(*known).slow = 30 * time.Millisecond
	})
	send(w.dial("127.0.0.1"), "a@client.example", "Subject: x\r\n\r\nx\r\n")
	took := map[string]float64{}
	for _, c := range w.recorder.wait(t, 0).Checks {
		took[c.Name] = c.Ms
	}
	if took["rdns"] < 30 || took["dnsbl"] < 30 || took["early_talk"] >= 30 {
		t.Errorf("%v", took)
	}
}

// splitResults splits a message before our Received field.
func splitResults(body []byte) (head string, rest []byte) {
	i := strings.Index(string(body), "Received: from ")
	return string(body[:max(i, 0)]), body[max(i, 0):]
}
