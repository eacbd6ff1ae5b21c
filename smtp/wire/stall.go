package wire

import (
	"time"

	"mailweir/smtp/reply"
)

// wait is what a read of the client waits for.
type wait struct {
	on    bool
	since time.Time // of the whole command or body, not of its last byte
	body  bool
	came  int64 // octets of the body since then
}

// Stalls says whether the client keeps us waiting: for a command, longer than
// patience, however many bytes of it have come; for a body, more slowly than
// Timeouts.MinRate, without the grace that clients have who keep nobody out.
func (c *Conn) Stalls(patience time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := time.Since(c.wait.since)
	if !c.wait.on || took <= patience {
		return false
	}
	return !c.wait.body || c.wait.came < int64(took/time.Second)*int64(c.cfg.Timeouts.MinRate)
}

// Dismiss is Bye for one who is not worth the wait: it breaks off a body, too.
// A message is never lost by it, for it is not ours before its end.
func (c *Conn) Dismiss(r reply.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bye == nil {
		c.bye = &r
	}
	if c.wait.on {
		c.nc.SetReadDeadline(past) // of raw, in a handshake
	}
}
