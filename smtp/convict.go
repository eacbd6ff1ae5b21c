package smtp

import (
	"context"
	"time"

	"mailweir/ref"
	"mailweir/smtp/reply"
)

// offendWait is how long a conviction may wait for guard, which answers in well
// under a millisecond; one that does not is an alarm, not a wait.
const offendWait = 50 * time.Millisecond

// watch reports recipient i, as v is about to answer it, and acts on the
// conviction that it may complete: the kernel is told before the client is
// answered, so that the convicting reply is the last thing it gets from us.
func (s *session) watch(t *transaction, i int, v Verdict) {
	w := s.server.opts.Watcher
	if w == nil || s.dry {
		return
	}
	s.mu.Lock()
	now := s.server.now()
	r := t.Facts.Rcpts[i]
	null := t.from.IsNull()
	src := Source{Addr: s.peer, Tier: s.tier, ASN: s.asn, Ref: t.Facts.Ref}
	s.mu.Unlock()
	r.Reason, r.Reply = v.Reason, v.Reply
	if c, convicted := w.Recipient(now, src, r, null); convicted {
		s.convict(t, now, c)
	}
}

// convict files the offence, ends every live session of the source, and keeps
// the evidence. In observe mode, and for whom the operator protects, only the
// evidence is kept.
func (s *session) convict(t *transaction, now time.Time, c Conviction) {
	enforced := false
	v := Verdict{Action: reply.Drop, Reason: c.Reason, Detail: c.Evidence.Rule}
	if s.policy.Observe || s.tier == Protected {
		v.Action = reply.Log
	} else {
		if enforced = s.offend(c.Reason, t.Facts.Ref); !enforced {
			s.server.unfiled.put(s.peer, offence{c.Reason, t.Facts.Ref, now})
		}
		s.server.resetOthers(s)
	}
	s.server.opts.Recorder.Convicted(t.Facts.Ref, s.peer, now, c, enforced)
	s.count(c.Reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.check(reply.Of(c.Reason).Check, v, s.server.now().Sub(now))
	if v.Action == reply.Drop {
		s.convicted = true
		t.decide(Dropped, c.Reason, reply.Reply{})
	}
}

// offend has guard ban the peer of this connection, and says whether the ban
// stands.
func (s *session) offend(reason reply.Reason, r ref.Ref) bool {
	o := s.server.opts.Offender
	if o == nil || s.conn == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), offendWait)
	defer cancel()
	if err := o.Offend(ctx, s.conn, reason, r); err != nil {
		s.server.log.Error("offence was not taken, it is filed again when the source comes back; see weir status",
			"peer", s.peer.String(), "reason", string(reason), "ref", r.String(), "error", err)
		return false
	}
	return true
}

func (s *session) isConvicted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.convicted
}
