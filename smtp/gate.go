package smtp

import (
	"context"
	"sync"
	"time"

	"mailweir/smtp/reply"
	"mailweir/smtp/wire"
)

const (
	// quiet is how long a stranger is watched when there is nothing else to wait
	// for: who speaks before the greeting does so at once.
	quiet = 1500 * time.Millisecond
	// underLoad is the longest wait when half of all places are taken: those who
	// wait hold one.
	underLoad = 2 * time.Second
	// longestWait is that of anybody: senders give up on a greeting that is late.
	longestWait = 10 * time.Second
)

// gate is what happens before the greeting: the source is looked up, and watched
// for early talk. false: the connection is over.
//
// Who is known waits for nothing; what is looked up of him comes in behind the
// greeting. A stranger waits until we know of him what there is to know, and a
// suspect twice as long as any.
func (c *client) gate(ctx context.Context) bool {
	c.session.scoutPeer()
	wait := c.server.greetWait(c.session)
	if wait <= 0 {
		return true
	}
	if c.session.policy.Teaser {
		c.wire.Tease(c.server.opts.Hostname)
	}
	watch, let := context.WithCancel(ctx)
	defer let()
	var letting sync.WaitGroup // it may make a suspect of the session, which is then ours alone again
	letting.Go(func() { c.letIn(watch, wait, let) })
	early, err := c.wire.Gate(watch, min(2*wait, longestWait))
	let()
	letting.Wait()
	if err == nil && early {
		return c.spokeEarly()
	}
	return err == nil
}

// greetWait is the longest wait of a stranger.
func (s *Server) greetWait(n *session) time.Duration {
	if !n.tier.Stranger() {
		return 0
	}
	wait := n.policy.GreetWait
	if s.limits.half(n.policy) {
		wait = min(wait, underLoad)
	}
	return wait
}

// letIn ends the wait of who is no suspect: when all look-ups are done and it
// was quiet for a while, and else after wait.
func (c *client) letIn(watch context.Context, wait time.Duration, let func()) {
	latest, enough := time.NewTimer(wait), time.NewTimer(min(quiet, wait))
	defer latest.Stop()
	defer enough.Stop()
	if g := c.session.peerScout; g != nil {
		select {
		case <-g.done:
		case <-latest.C: // the look-ups go on behind the greeting
			let()
			return
		case <-watch.Done():
			return
		}
	}
	c.session.guard("gate", func() Verdict { c.session.suspect(); return Verdict{} })
	c.session.mu.Lock()
	suspect := c.session.given == Suspect
	c.session.mu.Unlock()
	if suspect {
		return // waits to the end
	}
	select {
	case <-enough.C:
	case <-watch.Done():
	}
	let()
}

// spokeEarly judges who did. Only where that refuses by itself is it said here,
// in place of the greeting; else it is weighed with all the rest.
func (c *client) spokeEarly() bool {
	s := c.session
	s.mu.Lock()
	w := s.policy.Chain.Weigh(&s.tx.Facts, s.policy.Chain.Gate)
	v := s.observed(w.Verdict)
	s.mu.Unlock()
	if v.passes() {
		return true
	}
	v.Detail = string(wire.EarlyTalk)
	v.Reply = reply.Of(v.Reason).Reply
	if v.Action == reply.Defer {
		v.Reply = v.Reply.Later()
	}
	c.wire.TurnAway(s.refuseOther(v))
	return false
}
