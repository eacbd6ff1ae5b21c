package wire

import (
	"errors"
	"net"
	"os"
	"time"

	"mailweir/smtp/reply"
)

// past is a deadline that wakes a blocked read.
var past = time.Unix(1, 0)

// errInterrupted is fill's answer when it was woken before it could block.
var errInterrupted = errors.New("interrupted")

// fill reads more bytes of the client. All replies are on their way before it
// blocks. While it is idle, Bye may interrupt it.
func (c *Conn) fill(by time.Time, idle bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	nc, err := c.park(by, idle)
	if err != nil {
		return err
	}
	n, err := nc.Read(c.in.space())
	c.unpark()
	c.in.added(n)
	c.received.Add(int64(n))
	if n > 0 {
		return nil // an error comes again with the next read
	}
	return err
}

func (c *Conn) park(by time.Time, idle bool) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		return nil, net.ErrClosed
	case idle && (c.bye != nil || c.woken):
		return nil, errInterrupted
	}
	c.parked = idle
	c.wait = wait{on: true, since: c.body.began, body: true, came: c.body.raw}
	if idle {
		c.wait = wait{on: true, since: c.awaits}
	}
	return c.nc, c.nc.SetReadDeadline(by)
}

func (c *Conn) unpark() {
	c.mu.Lock()
	c.parked, c.wait = false, wait{}
	c.mu.Unlock()
}

// lost ends the connection after a failed read: with the 421 of Bye, with one
// of our own after a timeout (RFC 5321 section 3.8), else without a word.
// Whatever it was, Read answers net.ErrClosed from now on.
func (c *Conn) lost(err error, timeout reply.Reason, where string) error {
	r, leaving := c.byeReply()
	switch {
	case c.isDead():
	case leaving && (errors.Is(err, errInterrupted) || isTimeout(err)):
		c.finish(Command{}, r)
	case isTimeout(err):
		r := timeout.Reply()
		if timeout == reply.Timeout {
			r.Text = "Timeout " + where + ", closing the connection"
		}
		c.finish(Command{}, c.ev.Refuse(timeout, Command{}, r))
	default:
		c.die(err)
	}
	return net.ErrClosed
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// commandDeadline is when a command line that is awaited from now on must be
// complete, and the reason to give when it is not.
func (c *Conn) commandDeadline(now time.Time) (time.Time, reply.Reason) {
	by, end := now.Add(c.cfg.Timeouts.Command), c.began.Add(c.cfg.Timeouts.Session)
	if end.Before(by) {
		return end, reply.TooLong
	}
	return by, reply.Timeout
}

// bodyDeadline is when the next bytes of a body must have come: the client may
// not pause, nor be slower than the minimum rate, nor take for ever. Each bound
// alone can be evaded, by one byte a minute or by a body without an end.
func (c *Conn) bodyDeadline(now time.Time) time.Time {
	t := &c.cfg.Timeouts
	by := now.Add(t.DataIdle)
	paid := time.Duration(c.body.raw/int64(t.MinRate)) * time.Second
	for _, d := range []time.Duration{t.RateGrace + paid, t.DataTotal} {
		if end := c.body.began.Add(d); end.Before(by) {
			by = end
		}
	}
	return by
}
