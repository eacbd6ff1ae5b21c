package smtp

import (
	"context"
	"io"
	"time"

	"mailweir/smtp/reply"
)

// Content is a message (RFC 5321 section 2.3.1) as a Scout looks at it, with
// what its envelope is known for.
type Content struct {
	From       []string // the values of its From fields, cut at 4 KiB
	Signatures int      // DKIM-Signature fields
	Unwieldy   bool     // its header is such that looking for what was signed costs too much
	Message    *io.SectionReader

	SPF    string // as in Facts
	Domain string // that SPF is about: of MAIL FROM, or HELO of the null sender
}

// Authentication is what a message says of who wrote it, and what of that holds.
// What could not be learnt by our own fault is absent.
type Authentication struct {
	DKIM        []Signature
	Unread      int    // signatures besides that nobody looked at: a message has two or three, and each costs a look-up
	Author      string // domain of the one From field (RFC 5322 section 3.6.2), A-labels; "": there is no single one
	DMARC       string // pass, fail, none, temperror, permerror (RFC 7489 section 11.2); "": not gathered
	DMARCPolicy string // what the author's domain wants done on fail: none, quarantine, reject
}

// Signature is one DKIM signature (RFC 6376).
type Signature struct {
	Domain string // d=, A-labels; "": it says none that is a domain
	Result string // pass, fail, permerror, temperror (RFC 8601 section 2.7.1)
}

// authenticate has the scout look at the message of t.
func (s *session) authenticate(t *transaction, m *message, h *header) {
	if s.policy.Scout == nil || s.given == Protected {
		return
	}
	s.mu.Lock()
	c := Content{
		From: h.from, Signatures: h.signatures, Unwieldy: h.unwieldy(), Message: m.under(nil),
		SPF: t.Facts.SPF, Domain: t.from.Mailbox.Domain,
	}
	if c.Domain == "" {
		c.Domain = heloName(s.helo)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, scoutContent)
	defer cancel()
	begun := time.Now()
	s.guard("scout", func() Verdict {
		a := s.policy.Scout.Content(ctx, c)
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Facts.Authentication, t.verified = a, time.Since(begun)
		return Verdict{}
	})
}

// Deciding are the recipients, by index, whose policy a message is judged by:
// those that were accepted. Postmaster is one only where there is nobody else: he
// is spared refusals for his own sake, and must not take in for others what they
// refuse.
func Deciding(rcpts []Recipient) (all []int) {
	var postmasters []int
	for i, r := range rcpts {
		switch {
		case r.Reason != "":
		case IsPostmaster(r.To):
			postmasters = append(postmasters, i)
		default:
			all = append(all, i)
		}
	}
	if all == nil {
		return postmasters
	}
	return all
}

// weighMessage has the judges of policy say their last word, of each recipient
// that decides. The answer is one for all: the mildest of theirs, so that
// nobody loses mail by what a neighbour wants.
func (s *session) weighMessage(t *transaction) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	var mildest *Verdict
	for _, i := range Deciding(t.Facts.Rcpts) {
		f := t.Facts
		f.Rcpts = f.Rcpts[:i+1]
		c := s.policy.chainFor(f.Rcpts[i].domain())
		if v := s.weighFacts(t, &f, c, c.Peer, c.HELO, c.Sender, c.Content).Verdict; mildest == nil || v.milder(*mildest) {
			mildest = &v
		}
	}
	if mildest == nil {
		return Verdict{Action: reply.Pass}
	}
	return *mildest
}

// milder says whether a client is better off with v than with w.
func (v Verdict) milder(w Verdict) bool {
	rank := map[reply.Action]int{reply.Defer: 1, reply.Reject: 2, reply.Drop: 3}
	return rank[v.Action] < rank[w.Action]
}
