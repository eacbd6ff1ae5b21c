package smtp

import (
	"fmt"
	"strings"

	"github.com/emersion/go-msgauth/authres"
)

// scoreField is the header field that a backend can file to Junk by.
const scoreField = "X-Mailweir-Score"

// results are the fields that tell the backend what was found out of a message:
// Authentication-Results (RFC 8601), Received-SPF (RFC 7208 section 9.1) and the
// score. They stand above our Received field; nothing is said of a source that
// is not judged.
func (s *session) results(t *transaction) []byte {
	if s.policy.Scout == nil || s.given == Protected {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Authentication-Results: %s", s.server.opts.Hostname)
	found := s.found(t)
	for _, r := range found {
		// One by one, since the library does not fold.
		_, text, _ := strings.Cut(authres.Format("", []authres.Result{r}), "; ")
		fmt.Fprintf(&b, ";\r\n\t%s", strings.TrimSpace(text))
	}
	if len(found) == 0 {
		b.WriteString("; none")
	}
	b.WriteString("\r\n")
	if t.Facts.SPF != "" {
		s.receivedSPF(&b, t)
	}
	fmt.Fprintf(&b, "%s: %s\r\n", scoreField, t.scored())
	return []byte(b.String())
}

// found is what is known of t, as the library writes it.
func (s *session) found(t *transaction) (list []authres.Result) {
	f := &t.Facts
	if f.RDNS != nil {
		list = append(list, &authres.IPRevResult{Value: iprev[f.RDNS.State], IP: s.peer.String()})
	}
	if f.SPF != "" {
		r := &authres.SPFResult{Value: authres.ResultValue(f.SPF), From: s.plainSender(t)}
		if r.From == "" {
			r.Helo = heloName(s.helo)
		}
		list = append(list, r)
	}
	for _, d := range f.DKIM {
		list = append(list, &authres.DKIMResult{Value: authres.ResultValue(d.Result), Domain: d.Domain})
	}
	if f.Unread > 0 {
		list = append(list, &authres.DKIMResult{Value: authres.ResultPolicy, Reason: f.NotRead()})
	}
	if f.DKIM == nil && f.DMARC != "" {
		list = append(list, &authres.DKIMResult{Value: authres.ResultNone})
	}
	if f.DMARC != "" {
		list = append(list, &authres.DMARCResult{Value: authres.ResultValue(f.DMARC), From: f.Author})
	}
	return list
}

// NotRead tells of signatures that nobody looked at.
func (a *Authentication) NotRead() string { return fmt.Sprintf("%d more were not verified", a.Unread) }

// iprev is the result of RFC 8601 section 2.7.3 by the state of a reverse name.
var iprev = map[RDNSState]authres.ResultValue{
	Confirmed: authres.ResultPass, Mismatched: authres.ResultFail,
	NoRDNS: authres.ResultPermError, RDNSFailed: authres.ResultTempError,
}

// plainSender is the sender where it can stand in a field as it is, else its
// domain: a quoted local part could end what it stands in and go on with a
// result of its own.
func (s *session) plainSender(t *transaction) string {
	m := t.from.Mailbox
	if m.Domain != "" && strings.Trim(m.Local, atom) != "" {
		return m.Domain
	}
	return bareAddress(m)
}

// atom are the characters of a dot-atom (RFC 5322 section 3.2.3) that mean
// nothing in a field of results.
const atom = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+-/^_`{|}~="

// receivedSPF writes what RFC 7208 section 9.1 asks for.
func (s *session) receivedSPF(b *strings.Builder, t *transaction) {
	identity, sender := "mailfrom", s.plainSender(t)
	if sender == "" {
		identity = "helo"
	}
	fmt.Fprintf(b, "Received-SPF: %s client-ip=%s; envelope-from=\"%s\";\r\n\thelo=\"%s\"; receiver=%s; identity=%s\r\n",
		t.Facts.SPF, s.peer, sender, heloName(s.helo), s.server.opts.Hostname, identity)
}

// scored is the score with what it is the sum of: 6 (spf_fail 4, rdns_generic 2).
func (t *transaction) scored() string {
	var parts []string
	for _, c := range t.Checks {
		if c.Score != 0 {
			parts = append(parts, c.Name+" "+points(c.Score))
		}
	}
	if parts == nil {
		return points(t.Score)
	}
	return points(t.Score) + " (" + strings.Join(parts, ", ") + ")"
}
