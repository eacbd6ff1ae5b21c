package smtp

import (
	"sync"
	"time"

	"mailweir/ref"
	"mailweir/smtp/reply"
)

// lastWords is how long a session has to hear its answer after its delivery was
// cut off at the end of the grace.
const lastWords = 5 * time.Second

// drain ends all sessions without losing anything: who is idle, or at the gate,
// hears 421 4.3.2 at once; who is in a command or a message hears it after the
// answer. After the grace, deliveries are told to stop, so that their clients
// hear 451 and come again, and then what is left is closed. A message whose
// client heard no 250 is the client's to send again.
func (s *Server) drain(sessions *sync.WaitGroup) {
	for _, c := range s.live.all(true) {
		c.wire.Bye(c.session.farewell(reply.Shutdown))
	}
	done := make(chan struct{})
	go func() { sessions.Wait(); close(done) }()
	if !within(done, s.opts.Grace) {
		s.log.Warn("stopping with sessions in transfer, their clients will come again", "open", s.live.len())
		s.cutNow()
		if !within(done, lastWords) {
			for _, c := range s.live.all(true) {
				c.nc.Close()
				c.cancel()
			}
		}
	}
	<-done
	s.cutNow()
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// farewell is the reply that a session ends with when we want it to. It may be
// spoken much later, when another transaction is at hand, so it brings its own
// ref, which saidFarewell gives to that transaction. The first one stands.
func (s *session) farewell(why reply.Reason) reply.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byeRef == 0 {
		s.byeRef, s.byeWhy = ref.New(), why
	}
	return s.byeWhy.Reply().WithRef(s.byeRef)
}

// saidFarewell takes in a 421 that answers no command. One of the wire's own
// has come through refuseOther already, and leaves byeRef zero or unused.
func (s *session) saidFarewell(w reply.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byeRef == 0 || s.pending != nil {
		return
	}
	t := s.tx
	if !t.spoken {
		t.Facts.Ref, t.spoken = s.byeRef, true
	}
	s.count(s.byeWhy)
	t.check(reply.Of(s.byeWhy).Check, Verdict{Action: reply.Defer, Reason: s.byeWhy, Detail: "421"}, 0)
	t.last = refusal{s.byeWhy, w}
}
