package relay

import (
	"context"
	"errors"
	"sync"
	"time"
)

// life bounds the work that goes on behind its caller's back: questions that
// others may wait for, refreshes, and deliveries whose client left.
type life struct {
	mu    sync.Mutex
	ended bool
	ctx   context.Context
	end   context.CancelFunc
	work  sync.WaitGroup
}

var errStopping = errors.New("we are stopping")

func newLife() *life {
	l := new(life)
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// do runs f in the background for at most wait; false: it is too late for that.
func (l *life) do(wait time.Duration, f func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.work.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, wait)
		defer cancel()
		f(ctx)
	})
	return true
}

// stop cancels everything and waits for it.
func (l *life) stop() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.end()
	l.work.Wait()
}
