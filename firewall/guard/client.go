package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/ref"
)

// answerWithin bounds an offence: the session that found it must go on when
// guard does not answer.
const answerWithin = 50 * time.Millisecond

// idleConns is how many connections to guard are kept between offences.
const idleConns = 4

// Client reports offences to guard. It is safe for concurrent use and connects
// again by itself when guard was restarted.
type Client struct {
	path string
	idle chan *net.UnixConn
}

// NewClient makes a client of the guard that runs in runDir.
func NewClient(runDir string) *Client {
	return &Client{path: OffencePath(runDir), idle: make(chan *net.UnixConn, idleConns)}
}

// Offend reports that the peer of conn earned a ban for reason; ref is that of
// the record that says why. conn has to come from a listener that SaveSYN was
// called for, and may have been reset by the peer, but not closed. An error
// means that guard did not answer within 50 ms: the caller refuses the source
// at the gate and tries again at its next connection.
func (c *Client) Offend(ctx context.Context, conn *net.TCPConn, reason firewall.Reason, ref ref.Ref) (Result, error) {
	return c.OffendNetwork(ctx, conn, reason, ref, 0)
}

// OffendNetwork is Offend by one who knows the neighbourhood: nobody good is
// known within the peer's prefix of widest bits, so that the ban may grow to it
// when enough inside it is banned, see firewall.Ledger.ConvictNetwork.
func (c *Client) OffendNetwork(ctx context.Context, conn *net.TCPConn, reason firewall.Reason, ref ref.Ref, widest int) (Result, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Result{}, fmt.Errorf("report offence: %w", err)
	}
	var result Result
	var inner error
	err = raw.Control(func(fd uintptr) {
		result, inner = c.offend(ctx, int(fd), request{reason: reason, widest: uint8(widest), ref: ref})
	})
	if err = errors.Join(err, inner); err != nil {
		return Result{}, fmt.Errorf("report offence: %w", err)
	}
	return result, nil
}

// Standing asks whether an address is banned now. An error means that guard did
// not answer within 50 ms.
func (c *Client) Standing(ctx context.Context, a netip.Addr) (b firewall.Ban, banned bool, err error) {
	r, err := c.exchange(ctx, appendQuestion(nil, a), nil)
	return r.Ban, err == nil && r.Outcome == Already, err
}

// offend reports an offence of the peer of a socket.
func (c *Client) offend(ctx context.Context, fd int, req request) (Result, error) {
	return c.exchange(ctx, req.append(nil), unix.UnixRights(fd))
}

// exchange tries a kept connection first; guard may have been restarted since,
// so a failure to write there is worth one fresh connection.
func (c *Client) exchange(ctx context.Context, message, rights []byte) (Result, error) {
	deadline := time.Now().Add(answerWithin)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	for {
		conn, fresh, err := c.conn(ctx, deadline)
		if err != nil {
			return Result{}, err
		}
		result, err := exchange(conn, deadline, message, rights)
		if err == nil {
			c.keep(conn)
			return result, nil
		}
		conn.Close() // its answer may still come: it must not be taken for the next one's
		if fresh || !isHangup(err) {
			return Result{}, fmt.Errorf("ask guard: %w", err)
		}
	}
}

func isHangup(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.ENOTCONN) || errors.Is(err, io.EOF)
}

func (c *Client) conn(ctx context.Context, deadline time.Time) (conn *net.UnixConn, fresh bool, err error) {
	select {
	case conn = <-c.idle:
		return conn, false, nil
	default:
	}
	d := net.Dialer{Deadline: deadline}
	got, err := d.DialContext(ctx, "unixpacket", c.path)
	if err != nil {
		return nil, false, fmt.Errorf("reach guard: %w", err)
	}
	return got.(*net.UnixConn), true, nil
}

func (c *Client) keep(conn *net.UnixConn) {
	select {
	case c.idle <- conn:
	default:
		conn.Close()
	}
}

func exchange(conn *net.UnixConn, deadline time.Time, message, rights []byte) (Result, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return Result{}, err
	}
	if _, _, err := conn.WriteMsgUnix(message, rights, nil); err != nil {
		return Result{}, err
	}
	var b [answerSize + 1]byte
	n, err := conn.Read(b[:])
	if err != nil {
		return Result{}, err
	}
	return parseResult(b[:n])
}

// Close drops the kept connections.
func (c *Client) Close() error {
	for {
		select {
		case conn := <-c.idle:
			conn.Close()
		default:
			return nil
		}
	}
}

// SaveSYN asks the kernel to keep the opening packet of every connection that
// l accepts. Guard wants to see it before it believes that a stranger opened
// the connection, and not we. l must be plain TCP: Go's listeners speak MPTCP
// unless net.ListenConfig.SetMultipathTCP(false) was called, and with that a
// source could come by addresses that no ban names.
func SaveSYN(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return fmt.Errorf("keep opening packets: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1)
	})
	if err = errors.Join(err, inner); err != nil {
		return fmt.Errorf("keep opening packets (TCP_SAVE_SYN) on %v: %w (a listener of Go has to be made with SetMultipathTCP(false))", l.Addr(), err)
	}
	return nil
}
