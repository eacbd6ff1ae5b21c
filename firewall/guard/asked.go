package guard

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"mailweir/firewall"
)

// patience is how long an engine that is asked how it stands is waited for. Its
// answer comes from the kernel, behind what is just being written there, which
// may be a hundred thousand bans. It is less than alarmsWithin.
const patience = 3 * time.Second

// asked is what an engine said of itself when it was asked last.
type asked struct {
	mu     sync.Mutex
	answer chan struct{} // closed when the question that is on its way is answered
	last   firewall.Status
	err    error
}

// ask says how the engine stands, and whether that is the kernel's answer of now:
// one that does not come in time is what it was before.
func (a *asked) ask(ctx context.Context, status func(context.Context) (firewall.Status, error)) (s firewall.Status, now bool, err error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A question that was on its way before us may not know what we have done, so
	// that it is followed by another one.
	for own := false; !own; {
		answer, first := a.put(ctx, status)
		own = first || now
		select {
		case <-answer:
			now = true
		case <-wait.Done():
			own, now = true, false
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, now, a.err
}

// put asks, unless a question is on its way.
func (a *asked) put(ctx context.Context, status func(context.Context) (firewall.Status, error)) (answer <-chan struct{}, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answer != nil {
		return a.answer, false
	}
	done := make(chan struct{})
	a.answer = done
	go func() {
		s, err := status(context.WithoutCancel(ctx)) // others wait for it, too
		a.mu.Lock()
		a.last, a.err, a.answer = s, err, nil
		a.mu.Unlock()
		close(done)
	}()
	return done, true
}

// end waits for the question that is on its way.
func (a *asked) end() {
	a.mu.Lock()
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		<-answer
	}
}

// status is how the engine stands, without waiting for what it is writing. all is
// how many bans stand.
func (e *engine) status(ctx context.Context, all int) EngineStatus {
	s := EngineStatus{Engine: e.name, Working: e.working()}
	if e.enf != nil {
		is, now, err := e.asked.ask(ctx, e.enf.Status)
		e.trouble("status", err)
		s.Bans, s.Counters, s.Places, s.Problems, s.Flood = is.Bans, is.Counters, is.Places, is.Problems, is.Flood
		for _, i := range is.Interfaces {
			s.Interfaces = append(s.Interfaces, InterfaceStatus(i))
		}
		s.Busy = !now
	}
	for _, h := range e.leftOut() {
		s.LeftOut += h.left
	}
	s.Pending = e.pending(all-s.LeftOut, s.Bans)
	s.Problems = append(s.Problems, e.troubles()...)
	return s
}

// pending is how many changes are not in the kernel yet, where it should hold so
// many bans, and was last found to hold so many.
func (e *engine) pending(should, holds int) int {
	if e.enf == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.waiting) + len(e.refused) + e.writing
	if e.wanted && (e.replace || e.anew) {
		n = max(n, should-holds, holds-should)
	}
	return n
}

// counted is what the engine dropped of prefixes; nothing where it does not say
// in time because it is at work on a long change.
func (e *engine) counted(ctx context.Context, prefixes []netip.Prefix) (map[netip.Prefix]firewall.Hits, error) {
	if !e.long.Load() {
		return e.enf.Hits(ctx, prefixes)
	}
	type answer struct {
		hits map[netip.Prefix]firewall.Hits
		err  error
	}
	said := make(chan answer, 1)
	go func() {
		hits, err := e.enf.Hits(ctx, prefixes)
		said <- answer{hits, err}
	}()
	select {
	case a := <-said:
		return a.hits, a.err
	case <-time.After(patience):
		return nil, nil
	}
}
