package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/lab"
)

// mta is a sending mail server as RFC 5321 section 4.5.4 wants it: it keeps a
// message until it hears 250, and tries again after a 4xx or a broken
// connection. Only its clock runs faster. A 5xx is a bounce.
type mta struct {
	host  *lab.Host
	to    netip.AddrPort
	heard func(id string) // called for each 250

	done     atomic.Int64
	attempts atomic.Int64
	mu       sync.Mutex
	bounces  []string
}

const retryAfter = 50 * time.Millisecond

// send delivers one message after the other over some connections at a time,
// until enough is closed or ctx ends. It returns how many it took on, when all
// of these are delivered or ctx ends.
func (m *mta) send(ctx context.Context, enough <-chan struct{}, connections int) int {
	queue := make(chan int)
	var workers sync.WaitGroup
	for range connections {
		workers.Go(func() {
			for i := range queue {
				m.deliver(ctx, i)
			}
		})
	}
	n := 0
	for open := true; open; {
		select {
		case queue <- n:
			n++
		case <-enough:
			open = false
		case <-ctx.Done():
			open = false
		}
	}
	close(queue)
	workers.Wait()
	return n
}

// messageID is that of the i-th message.
func messageID(i int) string { return fmt.Sprintf("<durable-%d@sender.example>", i) }

// deliver tries until the message is taken.
func (m *mta) deliver(ctx context.Context, i int) {
	id := messageID(i)
	body := message(id, fmt.Sprint("number ", i), fmt.Sprintf("This is mail %d.\r\n.\r\n", i))
	for ctx.Err() == nil {
		m.attempts.Add(1)
		r, err := m.attempt(ctx, body)
		switch {
		case err == nil && r.Code == 250:
			m.heard(id)
			m.done.Add(1)
			return
		case err == nil && r.Code >= 500:
			m.mu.Lock()
			m.bounces = append(m.bounces, fmt.Sprintf("%s: %v", id, r))
			m.mu.Unlock()
			return
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
}

func (m *mta) attempt(ctx context.Context, body string) (lab.Reply, error) {
	c, greeting, err := m.host.SMTP(ctx, netip.Addr{}, m.to)
	if err != nil || greeting.Code != 220 {
		return greeting, err
	}
	defer c.Close()
	r, err := c.Deliver("x@sender.example", []string{anna}, body)
	if err == nil && r.Code == 250 {
		_, _ = c.Cmd("QUIT") // the message is theirs already, whatever comes of it
	}
	return r, err
}
