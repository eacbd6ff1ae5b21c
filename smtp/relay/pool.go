package relay

import (
	"context"
	"errors"
	"sync"
	"time"
)

// pool keeps the connections to one backend that serve one purpose.
//
// A connection is renewed after maxNoes refused recipients, before the server
// punishes it: Postfix answers slowly after 10 errors and closes after 20. It
// is renewed after maxUses in any case: Postfix counts each RSET without a
// message as junk up to 100, and Exim limits the messages of a connection.
type pool struct {
	dial    func(context.Context) (*client, error)
	maxUses int

	all       chan struct{} // a token for each connection in use
	strangers chan struct{} // and for those that serve the patient lane

	mu     sync.Mutex
	idle   []*client // last used last
	closed bool
	going  sync.WaitGroup // connections taking leave
}

const (
	maxNoes = 8
	maxIdle = 30 * time.Second
)

func newPool(size, maxUses int, dial func(context.Context) (*client, error)) *pool {
	return &pool{
		dial: dial, maxUses: maxUses,
		all:       make(chan struct{}, size),
		strangers: make(chan struct{}, max(size-size/5, 1)),
	}
}

var errBusy = errors.New("all connections that this backend is given are in use")

// lane takes part of the pool for one question. Those that may wait long leave
// a fifth of it to those that may not.
func (p *pool) lane(ctx context.Context, patient bool) (release func(), err error) {
	if patient {
		select {
		case p.strangers <- struct{}{}:
		case <-ctx.Done():
			return nil, errBusy
		}
	}
	select {
	case p.all <- struct{}{}:
	case <-ctx.Done():
		if patient {
			<-p.strangers
		}
		return nil, errBusy
	}
	return func() {
		<-p.all
		if patient {
			<-p.strangers
		}
	}, nil
}

// takeIdle returns a connection that is ready, or nil. It must be put back.
func (p *pool) takeIdle() *client {
	p.expire(time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return c
}

// put takes a connection back, or leave of it.
func (p *pool) put(c *client) {
	c.uses++
	c.idle = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && !c.broken && c.noes < maxNoes && c.uses < p.maxUses {
		p.idle = append(p.idle, c)
		return
	}
	p.leave(c)
}

// expire takes leave of connections that were idle for long: they cost the
// server a process each.
func (p *pool) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && now.Sub(p.idle[0].idle) >= maxIdle {
		p.leave(p.idle[0])
		p.idle = p.idle[1:]
	}
}

// leave says QUIT without making anybody wait for it; after close there is
// nobody who would wait for the goroutine, and the connection just ends. Called
// with p.mu held.
func (p *pool) leave(c *client) {
	if p.closed {
		c.conn.Close()
		return
	}
	p.going.Go(c.quit)
}

// close takes leave of all; connections in use follow when they are put back.
func (p *pool) close() {
	p.mu.Lock()
	for _, c := range p.idle {
		p.leave(c)
	}
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	p.going.Wait()
}

func (p *pool) inUse() int { return len(p.all) }
