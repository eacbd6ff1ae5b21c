package smtp

import (
	"context"
	"net/netip"
	"strings"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
	"mailweir/smtp/wire"
)

// Probe is a connection that nobody made. Fields that are left out end the
// dialogue there: without Mail and Rcpt only the connection is judged.
type Probe struct {
	From netip.Addr
	HELO string
	Mail *string // without brackets; "" is the null sender
	Rcpt string
}

// Decision is what such a connection would come to now.
type Decision struct {
	Facts   Facts
	Steps   []Check // in the order in which they were made
	Score   float64
	Outcome Outcome // Accepted: as far as the probe went, nothing was in the way
	Reason  reply.Reason
	Reply   reply.Reply // the refusal; zero where there is none
}

// Test says what would become of a connection, by the code that live sessions
// go through. The oracle is really asked; nothing is counted, filed or
// recorded, and the limits of sources are not looked at.
func (s *Server) Test(ctx context.Context, p Probe) Decision {
	n := s.newSession(ctx, p.From.Unmap(), netip.AddrPort{})
	n.dry = true
	said := n.probe(p)
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tx
	d := Decision{Facts: t.Facts, Steps: t.Checks, Score: t.Score, Outcome: Accepted}
	d.Facts.Ref, d.Facts.Session = 0, 0 // of no record: they would lead astray
	if said.reply.Code == 0 {
		return d
	}
	d.Reply, d.Reason = said.reply, said.reason
	d.Reply.Text = strings.TrimSuffix(d.Reply.Text, " (ref "+t.Facts.Ref.String()+")")
	d.Outcome = outcomeOf(d.Reason, d.Reply)
	return d
}

// said is a refusal with its reason.
type said struct {
	reply  reply.Reply
	reason reply.Reason
}

// probe plays p to the session up to its first refusal.
func (s *session) probe(p Probe) said {
	if v, _ := s.standing(); !v.passes() {
		return said{s.refuseOther(v), v.Reason}
	}
	if v := s.observed(s.arrival()); !v.passes() {
		return said{s.refuseOther(v), v.Reason}
	}
	if v := s.blocked(); !v.passes() {
		return said{s.refuseOther(v), v.Reason}
	}
	if v := s.closed(); !v.passes() {
		return said{s.refuseOther(v), v.Reason}
	}
	s.scoutPeer()
	if p.HELO != "" {
		s.greeted(wire.Command{Verb: "EHLO", Arg: p.HELO})
	}
	if p.Mail == nil && p.Rcpt == "" {
		return s.probePolicy()
	}
	if r := s.probeMail(p); r.reply.Code != 0 {
		return r
	}
	if p.Rcpt == "" {
		return s.probePolicy()
	}
	return s.probeRcpt(p.Rcpt)
}

// probePolicy is what the checks would say to any recipient, as far as it is
// known who it is.
func (s *session) probePolicy() said {
	s.scouted(s.tx, s.peerScout, s.heloScout, s.tx.scout)
	s.suspect()
	c := &s.policy.Chain
	v := s.guard("test", func() Verdict {
		s.mu.Lock()
		defer s.mu.Unlock()
		f := s.tx.Facts
		if lists := s.server.opts.Access; lists != nil {
			f.Rcpts = []Recipient{{}} // anybody: entries for some recipients do not count
			if e, ok := lists.Find(f.query()); ok {
				f.Rcpts[0].Listed = &e
			}
			if v := s.weighFacts(s.tx, &f, c, c.Lists).Verdict; !v.passes() {
				return v
			}
		}
		return s.weighFacts(s.tx, &f, c, c.Peer, c.HELO, c.Sender).Verdict
	})
	if v.passes() {
		return said{}
	}
	return said{s.refuseOther(v), v.Reason}
}

func (s *session) probeMail(p Probe) said {
	from := ""
	if p.Mail != nil {
		from = *p.Mail
	}
	path, err := address.ParsePath("<"+from+">", true)
	if err != nil {
		v := Verdict{Action: reply.Reject, Reason: reply.SenderSyntax, Detail: err.Error()}
		return said{s.malformedSender("FROM:"+from, v), v.Reason}
	}
	unquoted := ""
	if !path.IsNull() {
		unquoted = path.Mailbox.Local + "@" + path.Mailbox.Domain
	}
	r := s.mail(unquoted, mailParams{utf8: !path.Mailbox.IsASCII()})
	return said{r, s.reasonOf(r)}
}

func (s *session) probeRcpt(to string) said {
	m, err := address.ParseMailbox(to, true)
	if err != nil {
		v := Verdict{Action: reply.Reject, Reason: reply.RecipientSyntax, Detail: err.Error()}
		if !strings.Contains(to, "@") || strings.HasSuffix(to, "@") {
			v.Reason = reply.UnqualifiedRecipient
		}
		return said{s.malformedRecipient("TO:"+to, v), v.Reason}
	}
	r := s.rcpt(m.Local + "@" + m.Domain)
	return said{r, s.reasonOf(r)}
}

// reasonOf is the reason of the refusal that was just made, as its record would
// have it.
func (s *session) reasonOf(r reply.Reply) reply.Reason {
	if r.Code == 0 {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if take := s.pending; take != nil {
		s.pending = nil
		take(r)
	}
	if n := len(s.tx.Facts.Rcpts); n > 0 {
		return s.tx.Facts.Rcpts[n-1].Reason
	}
	return s.tx.Reason
}
