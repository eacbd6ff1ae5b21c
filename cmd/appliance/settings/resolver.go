package settings

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"mailweir/config"
)

// Resolver looks names up as [dns] says: at its servers, in turn, or at those
// of the machine, each with so much time to answer. A reload changes it.
type Resolver struct {
	*net.Resolver
	dns  atomic.Pointer[config.DNS]
	turn atomic.Uint32
}

func NewResolver(d config.DNS) *Resolver {
	r := &Resolver{}
	r.dns.Store(&d)
	r.Resolver = &net.Resolver{PreferGo: true, Dial: r.dial}
	return r
}

// Use takes other servers from now on.
func (r *Resolver) Use(d config.DNS) { r.dns.Store(&d) }

// dial connects to a server; address is one of /etc/resolv.conf.
func (r *Resolver) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := r.dns.Load()
	if n := len(d.Servers); n > 0 {
		address = d.Servers[int(r.turn.Add(1))%n].String()
	}
	until := time.Now().Add(d.Timeout)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if udp, ok := conn.(*net.UDPConn); ok {
		return question{udp, until}, nil
	}
	if err != nil {
		return nil, err
	}
	return longQuestion{conn, until}, nil
}

// question is a connection for one question over UDP, with an end that the
// standard library, which has a time-out of its own, does not move.
type question struct {
	*net.UDPConn
	until time.Time
}

func (q question) SetDeadline(t time.Time) error {
	return q.UDPConn.SetDeadline(earlier(t, q.until))
}

// longQuestion is one over TCP. The standard library tells the two apart by
// their methods.
type longQuestion struct {
	net.Conn
	until time.Time
}

func (q longQuestion) SetDeadline(t time.Time) error {
	return q.Conn.SetDeadline(earlier(t, q.until))
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
