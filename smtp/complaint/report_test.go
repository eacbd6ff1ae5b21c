package complaint

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"mailweir/ref"
)

var (
	key = Key{1, 2, 3}
	id  = mustRef("K7QM-2V9D-4XTJ")
)

func mustRef(s string) ref.Ref {
	for _, last := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
		if r, err := ref.Parse(s[:len(s)-1] + string(last)); err == nil {
			return r
		}
	}
	panic(s)
}

// field is a Received field as smtp writes it.
func field(r ref.Ref, seal string) string {
	return fmt.Sprintf("Received: from bulk.example ([203.0.113.7])\r\n\tby mx1.example.com with ESMTP\r\n\tid %v (seal %s)\r\n\tfor <jane@example.com>;\r\n\tFri, 27 Nov 2026 08:30:00 +0000\r\n", r, seal)
}

const spam = "Received: from nowhere (unknown [192.0.2.1]) by bulk.example; Fri, 27 Nov 2026 08:29:59 +0000\r\nSubject: offer\r\n\r\nbuy\r\n"

// report is the message of RFC 5965 appendix B.1, with what is inside to choose.
func report(feedback, partType, inside string) string {
	return "From: <abusedesk@example.com>\r\nTo: <complaints@example.com>\r\nSubject: FW: offer\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=feedback-report;\r\n\tboundary=\"part1_13d.2e68ed54_boundary\"\r\n\r\n" +
		"--part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain; charset=\"US-ASCII\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" +
		"This is an email abuse report for a message from 203.0.113.7.\r\n\r\n" +
		"--part1_13d.2e68ed54_boundary\r\nContent-Type: message/feedback-report\r\n\r\n" + feedback + "\r\n" +
		"--part1_13d.2e68ed54_boundary\r\n" + partType + "\r\n\r\n" + inside +
		"\r\n--part1_13d.2e68ed54_boundary--\r\n"
}

const abuse = "Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\nOriginal-Mail-From: <a@bulk.example>\r\nOriginal-Rcpt-To: <jane@example.com>\r\n"

func TestRead(t *testing.T) {
	seal := key.Seal(id)
	whole := field(id, seal) + spam
	token := []Token{{id, seal}}
	const rfc822 = "Content-Type: message/rfc822\r\nContent-Disposition: inline"
	for name, c := range map[string]struct {
		message string
		want    Report
		not     bool
	}{
		"a whole message":          {report(abuse, rfc822, whole), Report{"abuse", "jane@example.com", token}, false},
		"headers only":             {report(abuse, "Content-Type: text/rfc822-headers", field(id, seal)+"Subject: offer\r\n"), Report{"abuse", "jane@example.com", token}, false},
		"behind the backend's hop": {report(abuse, rfc822, "Received: from mx1.example.com by office.example.com id 12345\r\n"+whole), Report{"abuse", "jane@example.com", token}, false},
		"bare line feeds":          {strings.ReplaceAll(report(abuse, rfc822, whole), "\r\n", "\n"), Report{"abuse", "jane@example.com", token}, false},
		"a line that is no field":  {report(abuse, rfc822, field(id, seal)+"this is no field\r\n"+spam), Report{"abuse", "jane@example.com", token}, false},
		"not spam (RFC 6430)":      {report("Feedback-Type: not-spam\r\nVersion: 1\r\n", rfc822, whole), Report{"not-spam", "", token}, false},
		"two recipients":           {report(abuse+"Original-Rcpt-To: <bob@example.com>\r\n", rfc822, whole), Report{"abuse", "", token}, false},
		"no seal":                  {report(abuse, rfc822, strings.Replace(whole, " (seal "+seal+")", "", 1)), Report{"abuse", "jane@example.com", nil}, false},
		"a token in the body":      {report(abuse, rfc822, spam+field(id, seal)), Report{"abuse", "jane@example.com", nil}, false},
		"a token in another field": {report(abuse, rfc822, "X-"+whole), Report{"abuse", "jane@example.com", nil}, false},
		"encoded":                  {report(abuse, rfc822+"\r\nContent-Transfer-Encoding: base64", whole), Report{"abuse", "jane@example.com", nil}, false},
		"no feedback":              {report("User-Agent: x\r\n", rfc822, whole), Report{}, true},
		"a forwarded message":      {"Subject: FW\r\n\r\n" + whole, Report{}, true},
		"a bounce":                 {strings.Replace(report(abuse, rfc822, whole), "report-type=feedback-report", "report-type=delivery-status", 1), Report{}, true},
		"no boundary":              {"Content-Type: multipart/report; report-type=feedback-report\r\n\r\n", Report{}, true},
		"nothing":                  {"", Report{}, true},
	} {
		got, err := Read(strings.NewReader(c.message))
		if !reflect.DeepEqual(got, c.want) || (err != nil) != c.not {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

// Whatever is sent, little of it is read, and little kept.
func TestReadIsBounded(t *testing.T) {
	const rfc822 = "Content-Type: message/rfc822"
	deep := report(abuse, rfc822, strings.Repeat("X-Fill: x\r\n", Most/10)+field(id, key.Seal(id)))
	if r, _ := Read(strings.NewReader(deep)); r.Tokens != nil {
		t.Error("a token behind a megabyte was read")
	}
	many := report(abuse, rfc822, strings.Repeat(field(id, "AAAAAAAAAAAAAAAA"), 1000))
	if r, _ := Read(strings.NewReader(many)); len(r.Tokens) != mostTokens {
		t.Errorf("%d tokens are tried, want %d", len(r.Tokens), mostTokens)
	}
	long := report("Feedback-Type: "+strings.Repeat("a", 100_000)+"\r\n", rfc822, spam)
	if r, _ := Read(strings.NewReader(long)); len(r.Type) > 256 {
		t.Errorf("a type of %d bytes is kept", len(r.Type))
	}
	parts := report(strings.Repeat("\r\n--part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain\r\n", mostParts)+"\r\n\r\n", rfc822, spam)
	if r, err := Read(strings.NewReader(strings.Replace(parts, "message/feedback-report", "text/plain", 1) + report(abuse, rfc822, spam))); err == nil {
		t.Errorf("part %d was read: %+v", mostParts+1, r)
	}
}

// A seal is that of one ref under one key.
func TestSeal(t *testing.T) {
	seal := key.Seal(id)
	if !key.Sealed(id, seal) {
		t.Error("our own seal does not hold")
	}
	for what, holds := range map[string]bool{
		"another ref":       key.Sealed(id+1, seal),
		"another key":       Key{9}.Sealed(id, seal),
		"another seal":      key.Sealed(id, strings.Repeat("A", len(seal))),
		"no seal":           key.Sealed(id, ""),
		"half of it":        key.Sealed(id, seal[:8]),
		"the key of zeroes": Key{}.Sealed(id, seal),
	} {
		if holds {
			t.Errorf("%s passes for ours", what)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(report(abuse, "Content-Type: message/rfc822", field(id, key.Seal(id))+spam)))
	f.Add([]byte(report(abuse, "Content-Type: text/rfc822-headers", field(id, "AAAAAAAAAAAAAAAA"))))
	f.Add([]byte("Content-Type: multipart/report; report-type=feedback-report; boundary=x\n\n--x\n\n--x--"))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := Read(bytes.NewReader(message))
		if err != nil && !reflect.DeepEqual(r, Report{}) {
			t.Errorf("an error and %+v", r)
		}
		if len(r.Tokens) > mostTokens || len(r.Type) > 1024 || len(r.Recipient) > 1024 {
			t.Errorf("too much is kept: %d tokens, %d, %d", len(r.Tokens), len(r.Type), len(r.Recipient))
		}
		for _, k := range r.Tokens {
			if key.Sealed(k.Ref, k.Seal) && !bytes.Contains(message, []byte(k.Seal)) {
				t.Errorf("%v was made up", k)
			}
		}
	})
}
