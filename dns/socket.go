package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Who forges an answer has to guess the port of the question beside its id
// (RFC 5452 section 4.5). So a socket, whose port the kernel takes by chance, has
// one question at a time, and no more than a few in all, of which the last comes
// before anybody could find the port out.
const (
	mostAsked  = 16
	longestUse = time.Second
	mostSpare  = 64 // sockets of one server that wait for their next question
)

// sockets are those of one server over UDP that wait for their next question:
// to make one takes longer than to ask.
type sockets struct {
	mu    sync.Mutex
	spare []*socket // the newest last
}

type socket struct {
	*net.UDPConn
	made  time.Time
	asked int
}

// ask sends m from a socket that nobody else uses meanwhile.
func (p *sockets) ask(ctx context.Context, at netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	if s := p.take(time.Now()); s != nil {
		if a, err := p.askFrom(ctx, s, m); err == nil || ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return a, err
		}
		// It may have been told what became of a packet of long ago.
	}
	nc, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return p.askFrom(ctx, &socket{UDPConn: nc, made: time.Now()}, m)
}

func (p *sockets) askFrom(ctx context.Context, s *socket, m *dns.Msg) (*dns.Msg, error) {
	c := dns.Client{UDPSize: payload, Timeout: time.Minute} // ctx is shorter
	a, _, err := c.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: s.UDPConn, UDPSize: payload})
	if err == nil {
		err = fits(a, m)
	}
	if s.asked++; err != nil || s.asked >= mostAsked || !p.put(s) {
		s.Close()
	}
	return a, err
}

// take returns a socket that can be used again, if there is one.
func (p *sockets) take(now time.Time) *socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropOld(now)
	n := len(p.spare)
	if n == 0 {
		return nil
	}
	s := p.spare[n-1]
	p.spare = p.spare[:n-1]
	return s
}

func (p *sockets) put(s *socket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) >= mostSpare {
		return false
	}
	p.spare = append(p.spare, s)
	return true
}

// tidy closes those that nobody will use any more.
func (p *sockets) tidy(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropOld(now)
}

// dropOld closes those that are too old. Called with p.mu held.
func (p *sockets) dropOld(now time.Time) {
	kept := p.spare[:0]
	for _, s := range p.spare {
		if now.Sub(s.made) < longestUse {
			kept = append(kept, s)
		} else {
			s.Close()
		}
	}
	clear(p.spare[len(kept):])
	p.spare = kept
}
