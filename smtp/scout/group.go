package scout

import (
	"sync"
	"sync/atomic"
)

// group is a sync.WaitGroup for look-ups that one client caused: Wait panics with
// what one of them did, so that it ends that client's session and not the mail
// of all.
type group struct {
	all   sync.WaitGroup
	fault atomic.Pointer[any]
}

func (g *group) Go(f func()) {
	g.all.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				g.fault.Store(&p)
			}
		}()
		f()
	})
}

func (g *group) Wait() {
	g.all.Wait()
	if p := g.fault.Load(); p != nil {
		panic(*p)
	}
}
