package smtp

import (
	"context"
	"errors"
	"time"

	"mailweir/ref"
	"mailweir/smtp/reply"
)

// offendWait is how long a conviction may wait for guard, which answers in well
// under a millisecond; one that does not is an alarm, not a wait.
const offendWait = 50 * time.Millisecond

// source is who did something, for the watcher. Called with s.mu held.
func (s *session) source(t *transaction) Source {
	return Source{Addr: s.peer, Tier: s.tier, ASN: s.asn, Ref: t.Facts.Ref, Session: s.id}
}

// arrive reports the connection. true: it convicts a source that was found out
// while it was away, and must end.
func (s *session) arrive() bool {
	w := s.server.opts.Watcher
	if w == nil || s.dry {
		return false
	}
	s.mu.Lock()
	t, src := s.tx, s.source(s.tx)
	s.mu.Unlock()
	s.guard("harvest", func() Verdict {
		now := s.server.now()
		if c, convicted := w.Connected(now, src); convicted {
			s.convict(t, now, c)
		}
		return Verdict{}
	})
	return s.isConvicted()
}

// watch reports recipient i, as v is about to answer it, and does what the
// watcher advises: it may answer otherwise, or later. A conviction is acted on
// before the client is answered, so that the convicting reply is the last thing
// it gets from us.
func (s *session) watch(t *transaction, i int, v Verdict) Verdict {
	w := s.server.opts.Watcher
	if w == nil || s.dry {
		return v
	}
	s.mu.Lock()
	r, src, null := t.Facts.Rcpts[i], s.source(t), t.from.IsNull()
	s.mu.Unlock()
	r.Reason, r.Reply = v.Reason, v.Reply
	var a Advice
	s.guard("harvest", func() Verdict {
		now := s.server.now()
		if a = w.Recipient(now, src, r, null); a.Convicted {
			s.convict(t, now, a.Conviction)
		}
		return Verdict{}
	})
	if a.Wait > 0 && !s.policy.Observe && !s.isConvicted() {
		s.hold(a.Wait)
	}
	return s.advised(t, a.Say, v)
}

// advised is the verdict that takes the place of v on the watcher's advice.
func (s *session) advised(t *transaction, say reply.Reason, v Verdict) Verdict {
	if say == "" {
		return v
	}
	row := reply.Of(say)
	instead := s.observed(Verdict{Action: row.Action, Reason: say, Reply: row.Reply})
	s.mu.Lock()
	defer s.mu.Unlock()
	t.check(row.Check, instead, 0)
	if instead.passes() {
		return v
	}
	return instead
}

// hold keeps the client waiting for its answer.
func (s *session) hold(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// convict files the offence, ends every live session of the source, and keeps
// the evidence. In observe mode, and of a source that somebody protects, only
// the evidence is kept.
func (s *session) convict(t *transaction, now time.Time, c Conviction) {
	v := Verdict{Action: reply.Log, Reason: c.Reason, Detail: c.Evidence.Rule}
	enforced := false
	if !s.policy.Observe && !c.Spared && s.tier != Protected {
		err := s.offend(c.Reason, t.Facts.Ref)
		if enforced = err == nil; !errors.Is(err, ErrSpared) {
			v.Action = reply.Drop
			s.server.resetOthers(s)
		}
		if v.Action == reply.Drop && !enforced {
			s.server.unfiled.put(s.peer, offence{c.Reason, t.Facts.Ref, now})
		}
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

var errNoOffender = errors.New("nobody takes offences")

// offend has guard ban the peer of this connection; the error is that of
// Offender.
func (s *session) offend(reason reply.Reason, r ref.Ref) error {
	o := s.server.opts.Offender
	if o == nil || s.conn == nil {
		return errNoOffender
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), offendWait)
	defer cancel()
	err := o.Offend(ctx, s.conn, reason, r)
	switch {
	case errors.Is(err, ErrSpared):
		s.server.log.Warn("a protected source was convicted, it is not banned; see weir why",
			"peer", s.peer.String(), "reason", string(reason), "ref", r.String(), "error", err)
	case err != nil:
		s.server.log.Error("offence was not taken, it is filed again when the source comes back; see weir status",
			"peer", s.peer.String(), "reason", string(reason), "ref", r.String(), "error", err)
	}
	return err
}

func (s *session) isConvicted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.convicted
}
