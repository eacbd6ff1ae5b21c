package smtp

import (
	"net/netip"
	"time"

	"mailweir/smtp/access"
	"mailweir/smtp/reply"
)

// Access is the operator's lists; *access.List is one.
type Access interface {
	// Find returns the entry that counts for a client and a recipient.
	Find(q access.Query) (access.Entry, bool)
	// FindBlocked returns the one that blocks a client whatever it goes on to say.
	FindBlocked(peer netip.Addr) (access.Entry, bool)
}

// Allowed says that the operator lets this mail in: no check of policy is held
// against it, and it never waits.
func (r *Recipient) Allowed() bool { return r.Listed != nil && r.Listed.Action == access.Allow }

// query is what the lists are asked about the last recipient of f.
func (f *Facts) query() access.Query {
	q := access.Query{
		Peer: f.Peer, HELO: f.HELO, HELOTrue: f.HELOName == HELOPeer, Forged: f.SPF == "fail",
		Unproven: f.SPF != "" && (f.SPF != "pass" || f.SPFWide), To: f.Rcpts[len(f.Rcpts)-1].To,
	}
	if f.RDNS != nil && f.RDNS.State == Confirmed {
		q.RDNS = f.RDNS.Name
	}
	if f.MailFrom != nil && f.MailForm == GoodForm {
		q.Sender = *f.MailFrom
	}
	return q
}

// look asks the lists about recipient i, and judges what they say. Whether a
// sender is forged has to be known before he lets anybody in.
func (s *session) look(t *transaction, i int, c *Chain) Verdict {
	lists := s.server.opts.Access
	if lists == nil {
		return Verdict{Action: reply.Pass}
	}
	find := func() (listed *access.Entry) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e, ok := lists.Find(t.Facts.query()); ok {
			listed = &e
		}
		t.Facts.Rcpts[i].Listed = listed
		return listed
	}
	e := find()
	if e != nil && e.Action == access.Allow && e.Subject.Kind == access.From {
		s.scouted(t, t.scout)
		e = find()
	}
	if e != nil && e.Bans && s.named(t) {
		s.convictFed(t, t.moment(s.server.now().Sub(t.begun)), e)
	}
	return s.weigh(t, c, c.Lists).Verdict
}

// blocked is the verdict on a source by its address alone, where the lists block
// it for every recipient, and no entry could let it in by what it says.
func (s *session) blocked() Verdict {
	pass := Verdict{Action: reply.Pass}
	if s.server.opts.Access == nil || s.tier == Protected || s.tier == Provider {
		return pass // an entry that is narrower than a provider's network makes it none
	}
	e, ok := s.server.opts.Access.FindBlocked(s.peer)
	if !ok || e.Bans {
		return pass
	}
	v := s.observed(Verdict{Action: reply.Reject, Reason: reply.Blocked, Reply: reply.Blocked.Reply(), Detail: e.Told()})
	if v.passes() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tx.check(reply.Of(reply.Blocked).Check, v, 0)
	}
	return v
}

// fed convicts a source that a feed has whose word is a ban, once it spoke: so
// guard can see that it is there. Where an entry could let it in by what it goes
// on to say, that is looked at first.
func (s *session) fed(t *transaction) bool {
	lists := s.server.opts.Access
	if lists == nil {
		return false
	}
	e, ok := lists.FindBlocked(s.peer)
	if !ok || !e.Bans {
		return false
	}
	s.convictFed(t, t.moment(0), &e)
	return s.isConvicted()
}

// named says whether it is known who the client is, as far as anybody can say.
func (s *session) named(t *transaction) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := t.Facts.RDNS
	return r != nil && r.State != RDNSFailed
}

// convictFed convicts a source by the entry of a feed, once in a session.
func (s *session) convictFed(t *transaction, now time.Time, e *access.Entry) {
	if s.fedBy || s.dry {
		return
	}
	s.fedBy = true
	s.convict(t, now, Conviction{
		Reason: reply.Feed, Spared: s.tier == Trusted, Evidence: Evidence{Rule: "feed." + e.Feed + " " + e.Subject.String()},
	})
	if s.isConvicted() {
		s.count(reply.Feed)
	}
}
