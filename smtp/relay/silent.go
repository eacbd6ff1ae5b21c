package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errUnasked is one answer too many: the next would be taken for that of another
// command, in the worst case for a message's.
var errUnasked = fmt.Errorf("%w: it answers what was not asked", errNonsense)

// ticketWait is what a TLS record that has begun to come may take to become
// whole. Most are tickets (RFC 8446 section 4.6.1), and those say nothing.
const ticketWait = time.Millisecond

// silent says that the server has said nothing since its last answer, as it has
// to before we speak: not in our buffer, not in that of TLS, and not in the
// kernel's, where a late answer lies when a connection comes out of the pool.
// A deadline may be left behind.
func (c *client) silent() error {
	if c.r.Buffered() > 0 {
		return errUnasked
	}
	secure, encrypted := c.conn.(*tls.Conn)
	if encrypted {
		// Past its deadline TLS reads nothing more, but gives what it has.
		if err := c.silentUntil(longAgo); err != nil {
			return err
		}
		waiting, err := inKernel(secure.NetConn())
		if err != nil || !waiting {
			return err
		}
		return c.silentUntil(time.Now().Add(ticketWait))
	}
	waiting, err := inKernel(c.conn)
	if waiting {
		return errUnasked
	}
	return err
}

func (c *client) silentUntil(t time.Time) error {
	if err := c.conn.SetReadDeadline(t); err != nil {
		return err
	}
	_, err := c.r.Peek(1)
	switch {
	case err == nil:
		return errUnasked
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

// inKernel says whether bytes of the peer wait to be read; io.EOF: it has closed.
// Of connections that are not the kernel's, nothing is known.
func inKernel(conn net.Conn) (waiting bool, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, err
	}
	var b [1]byte
	var n int
	var look error
	if err := raw.Control(func(fd uintptr) {
		n, _, look = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); err != nil {
		return false, err
	}
	switch {
	case look == unix.EAGAIN || look == unix.EINTR:
		return false, nil
	case look != nil:
		return false, look
	case n == 0:
		return false, io.EOF
	}
	return true, nil
}
