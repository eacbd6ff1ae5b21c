package scout

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"mailweir/smtp"
)

// mostSignatures are looked at, the first that the message has: mail of large
// senders has two or three.
const mostSignatures = 5

// Content implements smtp.Scout.
func (s *Scout) Content(ctx context.Context, c smtp.Content) smtp.Authentication {
	r := &fullResolver{dns: s.dns}
	lookup := func(name string) ([]string, error) { return r.LookupTXT(ctx, name) }
	a := smtp.Authentication{DKIM: signatures(c, keysOf(lookup)), Author: author(c.From)}
	if !c.Unwieldy {
		a.Unread = max(0, c.Signatures-mostSignatures)
	}
	switch {
	case r.unknown(ctx):
		return smtp.Authentication{}
	case a.Author == "":
		a.DMARC = "permerror"
		return a
	}
	record, err := policyOf(a.Author, lookup)
	switch {
	case r.unknown(ctx):
		return smtp.Authentication{DKIM: a.DKIM, Unread: a.Unread, Author: a.Author}
	case dmarc.IsTempFail(err):
		a.DMARC = "temperror"
	case errors.Is(err, dmarc.ErrNoPolicy):
		a.DMARC = "none"
	case err != nil:
		a.DMARC = "permerror"
	default:
		a.DMARC, a.DMARCPolicy = aligned(c, a, record.Record), record.wanted()
	}
	return a
}

// signatures verifies a message's DKIM signatures (RFC 6376 section 6.1).
func signatures(c smtp.Content, lookup func(string) ([]string, error)) (list []smtp.Signature) {
	switch {
	case c.Signatures == 0:
		return nil
	case c.Unwieldy:
		return []smtp.Signature{{Result: "permerror"}}
	}
	options := &dkim.VerifyOptions{LookupTXT: lookup, MaxVerifications: mostSignatures}
	found, err := dkim.VerifyWithOptions(&calm{r: bufio.NewReaderSize(c.Message, 32<<10)}, options)
	if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
		return []smtp.Signature{{Result: "permerror"}} // no end of its header
	}
	for _, v := range found {
		d := smtp.Signature{Result: "fail"}
		switch {
		case v.Err == nil:
			d.Result = "pass"
		case dkim.IsTempFail(v.Err):
			d.Result = "temperror"
		case dkim.IsPermFail(v.Err):
			d.Result = "permerror"
		}
		d.Domain, _ = domainName(v.Domain)
		list = append(list, d)
	}
	return list
}

// calm reads a message for the library, which keeps empty lines until others
// follow (RFC 6376 section 3.4.3), copies them at each read, and leaves its
// goroutines behind at an error. A run of line ends that no letter has, and an
// error of our disk, end the message, and with a word that nobody signed: empty
// lines alone would be taken for none, whatever follows them.
type calm struct {
	r     io.Reader
	run   int // of CR and LF
	ended bool
}

const longestRun = 64 << 10

func (c *calm) Read(p []byte) (int, error) {
	if c.ended {
		return 0, io.EOF
	}
	n, err := c.r.Read(p)
	for _, b := range p[:n] {
		if c.run++; b != '\r' && b != '\n' {
			c.run = 0
		}
	}
	if err == io.EOF || err == nil && c.run <= longestRun {
		return n, err
	}
	c.ended = true
	return copy(p, "\r\ncut"), nil
}

// domainName is a domain as it is compared and recorded.
func domainName(s string) (string, bool) {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, "."))
	return name, err == nil && strings.Contains(name, ".")
}

// organisation is the organisational domain (RFC 7489 section 3.2).
func organisation(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain // a public suffix itself
	}
	return org
}

// published is a DMARC record and how it was found.
type published struct {
	*dmarc.Record
	above bool // at the organisational domain of the author's
}

// policyOf finds the record for a domain (RFC 7489 section 6.6.3).
func policyOf(domain string, lookup func(string) ([]string, error)) (published, error) {
	o := &dmarc.LookupOptions{LookupTXT: func(name string) ([]string, error) { return onlyRecord(lookup(name)) }}
	record, err := dmarc.LookupWithOptions(domain, o)
	org := organisation(domain)
	if !errors.Is(err, dmarc.ErrNoPolicy) || org == domain {
		return published{record, false}, err
	}
	record, err = dmarc.LookupWithOptions(org, o)
	return published{record, true}, err
}

// onlyRecord drops texts that are no DMARC records, and all of several.
func onlyRecord(texts []string, err error) (records []string, _ error) {
	for _, t := range texts {
		if version, _, _ := strings.Cut(t, ";"); strings.Join(strings.Fields(version), "") == "v=DMARC1" {
			records = append(records, t)
		}
	}
	if len(records) > 1 {
		return nil, err
	}
	return records, err
}

// wanted is what is wanted done with mail that fails. A domain that asks it for
// a share of its mail (pct) is trying it out, and gets the next milder.
func (p published) wanted() string {
	policy := p.Policy
	if p.above && p.SubdomainPolicy != "" {
		policy = p.SubdomainPolicy
	}
	if p.Percent != nil && *p.Percent < 100 {
		policy = map[dmarc.Policy]dmarc.Policy{dmarc.PolicyReject: dmarc.PolicyQuarantine}[policy]
	}
	if policy == "" {
		policy = dmarc.PolicyNone
	}
	return string(policy)
}

// aligned is the result of DMARC: pass where SPF or a signature holds for the
// author's domain, or for one of the same organisation.
func aligned(c smtp.Content, a smtp.Authentication, r *dmarc.Record) string {
	same := func(domain string, mode dmarc.AlignmentMode) bool {
		return domain == a.Author || mode != dmarc.AlignmentStrict && organisation(domain) == organisation(a.Author)
	}
	result := "fail"
	if c.Domain != "" && same(strings.ToLower(c.Domain), r.SPFAlignment) {
		switch c.SPF {
		case "pass":
			return "pass"
		case "temperror":
			result = "temperror"
		case "":
			result = "" // nobody of ours knows
		}
	}
	for _, d := range a.DKIM {
		switch {
		case d.Domain == "" || !same(d.Domain, r.DKIMAlignment):
		case d.Result == "pass":
			return "pass"
		case d.Result == "temperror" && result == "fail":
			result = "temperror"
		}
	}
	return result
}
