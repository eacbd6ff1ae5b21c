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
	return Source{
		Addr: s.peer, Tier: s.given, ASN: s.asn, Ref: t.Facts.Ref, Session: s.id, HELO: s.helo,
		Vouched: t.Facts.Vouched(), Nameless: t.Facts.Nameless(),
	}
}

// arrive reports that the source is here and spoke. A source that was found out
// while it was away is convicted by it; the reply under way is then its last.
func (s *session) arrive() {
	w := s.server.opts.Watcher
	if s.dry || s.fileAgain() {
		return
	}
	s.mu.Lock()
	t, src := s.tx, s.source(s.tx)
	s.mu.Unlock()
	if s.fed(t) || w == nil {
		return
	}
	s.guard("harvest", func() Verdict {
		now := t.moment(0)
		var c Conviction
		var convicted bool
		told := s.server.order.tell(s.server.now(), func() { c, convicted = w.Connected(now, src) })
		s.mu.Lock()
		t.Facts.Told = told
		s.mu.Unlock()
		if convicted {
			s.convict(t, now, c)
			if s.isConvicted() {
				s.count(c.Reason)
			}
		}
		return Verdict{}
	})
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
	t.brought = t.brought || !v.passes() && !v.Itself
	s.mu.Unlock()
	r.Reason, r.Reply, src.Itself = v.Reason, v.Reply, v.Itself
	var a Advice
	s.guard("harvest", func() Verdict {
		now := t.moment(r.At)
		told := s.server.order.tell(s.server.now(), func() { a = w.Recipient(now, src, r, null) })
		s.mu.Lock()
		t.Facts.Rcpts[i].Told, t.Facts.Rcpts[i].Directory = told, a.Directory
		s.mu.Unlock()
		if a.Convicted {
			a.Say = s.believed(t, i, src, now, &a.Conviction)
			s.convict(t, now, a.Conviction)
		}
		return Verdict{}
	})
	if s.isConvicted() {
		return v.convicting(a.Conviction.Reason)
	}
	if a.Wait > 0 && !s.policy.Observe {
		s.hold(a.Wait)
	}
	return s.advised(t, i, a.Say, v)
}

// convicting is the verdict on the recipient that convicts: in the words that
// it has anyway, which tell nothing, under the name of the conviction.
func (v Verdict) convicting(why reply.Reason) Verdict {
	if v.passes() || v.Reply.Code == 0 {
		v.Reply = reply.Of(why).Reply
	}
	v.Action, v.Reason = reply.Drop, why
	return v
}

// canaryWait is how long a conviction may wait for the canary.
const canaryWait = 10 * time.Second

// believed spares who was convicted by the answers of a directory that cannot
// be believed (promise 3), has the watcher take that back, and says what to
// answer then.
func (s *session) believed(t *transaction, i int, src Source, now time.Time, c *Conviction) reply.Reason {
	if s.server.opts.Canary == nil || c.Reason != reply.Harvest || c.Spared {
		return ""
	}
	ctx, cancel := context.WithTimeout(s.ctx, canaryWait)
	defer cancel()
	s.mu.Lock()
	to, domain := t.Facts.Rcpts[i].To, t.Facts.Rcpts[i].domain()
	s.mu.Unlock()
	why, said := s.server.opts.Canary.Sick(ctx, domain)
	if said == Valid {
		return ""
	}
	s.server.opts.Watcher.Overturned(now, src, domain)
	s.mu.Lock()
	t.Facts.Rcpts[i].Canary = said
	s.mu.Unlock()
	s.server.log.Warn("a conviction counts nothing, the directory cannot be believed; see weir status",
		"peer", s.peer.String(), "rcpt", to, "why", why)
	c.Spared, c.Left = true, LeftDirectory
	return reply.OracleAway
}

// advised is the verdict that takes the place of v on the watcher's advice.
func (s *session) advised(t *transaction, i int, say reply.Reason, v Verdict) Verdict {
	if say == "" {
		return v
	}
	row := reply.Of(say)
	s.mu.Lock()
	defer s.mu.Unlock()
	only := s.policy.chainFor(t.Facts.Rcpts[i].domain()).Observe
	instead := s.told(s.observed(Verdict{Action: row.Action, Reason: say, Reply: row.Reply}), only)
	t.check(row.Check, instead, 0)
	if say == reply.OracleAway { // what the directory said is no fact
		t.Facts.Rcpts[i].Oracle = Unavailable
	}
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
	c.Tier, c.Left = s.tier, s.left(c)
	if c.Left == LeftEnforced {
		err := s.offend(c.Reason, t.Facts.Ref)
		switch {
		case errors.Is(err, ErrSpared):
			c.Left = LeftProtected
		case err != nil:
			c.Left = LeftGuard
			s.server.unfiled.put(s.peer, offence{c.Reason, t.Facts.Ref, now})
			fallthrough
		default:
			v.Action = reply.Drop
			s.server.resetOthers(s)
		}
	}
	s.server.opts.Recorder.Convicted(t.Facts.Ref, s.peer, now, c, c.Left == LeftEnforced)
	if v.Action == reply.Log { // else the refusal is counted
		s.spare(c.Reason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.check(reply.Of(c.Reason).Check, v, 0)
	if v.Action == reply.Drop {
		s.convicted = true
		t.decide(Dropped, c.Reason, reply.Reply{})
	}
}

// left is why a conviction bans nobody, as far as that is known here.
func (s *session) left(c Conviction) Left {
	switch {
	case s.tier == Protected || s.tier == Provider:
		return LeftProtected
	case c.Left != LeftEnforced:
		return c.Left
	case c.Spared:
		return LeftKnownGood
	case s.policy.Observe:
		return LeftObserve
	}
	return LeftEnforced
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
