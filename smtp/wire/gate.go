package wire

import (
	"context"
	"errors"
	"net"
	"time"
)

// Tease writes a first line of the greeting, 220-text, before the wait: a
// client that does not know of multi-line replies takes it for the greeting
// and speaks early. Errors are met again by whoever reads or writes next.
func (c *Conn) Tease(text string) {
	c.out = append(c.out, "220-"+text+"\r\n"...)
	c.flush()
}

// Gate watches the client for wait, before our greeting. It returns early true
// as soon as the client speaks (a slip; what it said is kept and handled after
// the greeting), or false when the wait is over or ctx done. The error says
// that the client left, or that Bye ended the connection.
func (c *Conn) Gate(ctx context.Context, wait time.Duration) (early bool, err error) {
	c.setGating(true)
	c.awaits = time.Now()
	stop := context.AfterFunc(ctx, c.wake)
	err = c.fill(time.Now().Add(wait), true)
	stop()
	c.setGating(false)

	bye, leaving := c.byeReply()
	switch {
	case err == nil:
		c.ev.Slip(EarlyTalk)
		return true, nil
	case leaving && !c.isDead():
		c.finish(Command{}, bye)
		return false, net.ErrClosed
	case errors.Is(err, errInterrupted) || isTimeout(err):
		return false, nil
	}
	c.die(err)
	return false, err
}

func (c *Conn) setGating(on bool) {
	c.mu.Lock()
	c.gating, c.woken = on, false
	c.mu.Unlock()
}

// wake ends the wait of Gate. It may come before the wait or after it.
func (c *Conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gating {
		c.woken = true
		c.interrupt()
	}
}

// interrupt wakes a read that may be interrupted; c.mu is held.
func (c *Conn) interrupt() {
	if c.parked {
		c.nc.SetReadDeadline(past)
	}
}
