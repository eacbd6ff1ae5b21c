// Package complaint takes in what recipients complain about: feedback reports
// (ARF, RFC 5965) that come by mail to the address of
// harvest.complaint_mailbox.
//
//	mail for the mailbox ─► Read: is it a report? ─► a sealed ref in the Received field
//	   │                                            of the message it has inside ─► take
//	   └─► on to the backend as any mail, if that has such a mailbox
//
// Who may be banned is nobody's word in the report: it proves which message is
// meant, and the record of that message says where it came from and who got it.
//
// It is the one place that looks into the parts of a message, and only of those
// to that mailbox. Read takes no more of one than Most bytes and a few parts,
// decodes nothing, and believes nothing but the seal.
package complaint

import (
	"bufio"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	"mailweir/ref"
)

const (
	// Most is how many bytes of a message are looked at. What proves a report
	// stands in the header of the message inside, behind a few lines.
	Most = 1 << 20
	// mostParts bounds the parts; a report has three (RFC 5965 section 2).
	mostParts = 8
	// mostTokens bounds what is tried of a header full of Received fields.
	mostTokens = 64
)

// Report is what is read of a feedback report.
type Report struct {
	// Type is the Feedback-Type (RFC 5965 section 3.1) in lower case.
	Type string
	// Recipient is the Original-Rcpt-To, if there is just one: who complains,
	// as the reporter has it.
	Recipient string
	// Tokens are the sealed refs that the message inside has, the last hop first.
	// Whether a seal is ours, the Key knows.
	Tokens []Token
}

// Token is a ref with its seal, as our Received field has them.
type Token struct {
	Ref  ref.Ref
	Seal string
}

// ErrNoReport says that a message is not a feedback report.
var ErrNoReport = errors.New("it is no feedback report (RFC 5965)")

// Complains says whether the report is a complaint. There are reports that say
// the contrary (not-spam, RFC 6430) or something of the sender's own set-up
// (auth-failure, RFC 6591).
func (r Report) Complains() bool {
	return slices.Contains([]string{"abuse", "fraud", "virus"}, r.Type)
}

// Read reads a report. An error is one of the message: it cannot be read as one.
func Read(message io.Reader) (Report, error) {
	body := bufio.NewReader(io.LimitReader(message, Most))
	header, err := readHeader(body)
	if err != nil {
		return Report{}, ErrNoReport
	}
	kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || !strings.EqualFold(params["report-type"], "feedback-report") || params["boundary"] == "" {
		return Report{}, ErrNoReport
	}
	var r Report
	parts := multipart.NewReader(body, params["boundary"])
	for range mostParts {
		p, err := parts.NextRawPart()
		if err != nil {
			break // the end, or what cannot be read: what was found stands
		}
		r.take(p)
	}
	if r.Type == "" {
		return Report{}, ErrNoReport
	}
	return r, nil
}

// take reads what one part has to say; of each kind the first counts.
func (r *Report) take(p *multipart.Part) {
	kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil || encoded(p.Header) {
		return
	}
	fields, _ := readHeader(p) // as far as it can be read: what follows a bad line proves nothing
	switch {
	case kind == "message/feedback-report" && r.Type == "":
		r.Type = strings.ToLower(short(fields.Get("Feedback-Type")))
		if to := fields.Values("Original-Rcpt-To"); len(to) == 1 {
			r.Recipient = strings.Trim(short(to[0]), "<>")
		}
	case (kind == "message/rfc822" || kind == "text/rfc822-headers") && r.Tokens == nil:
		r.Tokens = tokens(fields.Values("Received"))
	}
}

// short bounds what goes into a record.
func short(s string) string {
	s = strings.TrimSpace(s)
	return strings.ToValidUTF8(s[:min(len(s), 256)], "?")
}

// encoded says whether a part has to be decoded first, which a message part
// never has (RFC 2046 section 5.2.1).
func encoded(h textproto.MIMEHeader) bool {
	e := strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding")))
	return e == "base64" || e == "quoted-printable"
}

// readHeader reads the fields up to the first empty line, or to the end where
// there is none.
func readHeader(from io.Reader) (textproto.MIMEHeader, error) {
	h, err := textproto.NewReader(readerOf(from)).ReadMIMEHeader()
	if errors.Is(err, io.EOF) && len(h) > 0 {
		err = nil
	}
	return h, err
}

// readerOf spares a second buffer, which would swallow what follows.
func readerOf(from io.Reader) *bufio.Reader {
	if b, ok := from.(*bufio.Reader); ok {
		return b
	}
	return bufio.NewReader(from)
}

// tokenForm is what smtp's Received field has in its id clause.
var tokenForm = regexp.MustCompile(`\sid\s+([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\s+\(seal ([A-Z2-7]{16})\)`)

func tokens(received []string) (list []Token) {
	for _, field := range received[:min(len(received), mostTokens)] {
		m := tokenForm.FindStringSubmatch(field)
		if m == nil {
			continue
		}
		if r, err := ref.Parse(m[1]); err == nil {
			list = append(list, Token{r, m[2]})
		}
	}
	return list
}
