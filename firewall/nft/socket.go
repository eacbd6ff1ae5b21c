package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// socket speaks nfnetlink for what google/nftables does not do, or not at the
// size of a ban list: batches of a million elements cut at 64 KiB, dumps read
// as they come, elements looked up one by one, counters carried over. It is
// opened for one operation, so that an answer nobody waited for (after an
// error, a time-out) is never taken for the answer to a later question.
type socket struct {
	fd  int
	seq uint32
}

const (
	// buffers are allowed to grow to this: the kernel takes a batch in one
	// piece and answers it in one go.
	bufferSize = 256 << 20
	// answerTime is how long the kernel may take for the next answer; a batch
	// is worked off before it is sent, so this is never near.
	answerTime = 60 * time.Second
	headerSize = unix.NLMSG_HDRLEN + 4 // netlink and nfnetlink
)

func dial() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, explain("open a netfilter socket", err)
	}
	s := &socket{fd: fd}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize),
	)
	if err != nil {
		return nil, errors.Join(explain("set up a netfilter socket", err), s.close())
	}
	tv := unix.NsecToTimeval(int64(answerTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return nil, errors.Join(explain("set up a netfilter socket", err), s.close())
	}
	return s, nil
}

func (s *socket) close() error { return unix.Close(s.fd) }

// message appends a message without its attributes; finish it with seal.
func (s *socket) message(b []byte, typ, flags uint16, family byte, resource uint16) []byte {
	s.seq++
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, s.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	return binary.BigEndian.AppendUint16(b, resource)
}

// seal writes the length of the message that begins at start and ends with b.
func seal(b []byte, start int) { binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start)) }

func request(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

func (s *socket) send(b []byte) error {
	err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err != nil {
		return fmt.Errorf("send %d bytes: %w", len(b), err)
	}
	return nil
}

// errEnough ends the reading of answers before their end.
var errEnough = errors.New("enough was read")

// answers hands the body of every answer to yield until the kernel has said
// that request seq is done. It returns the first error it is told of, or that
// of yield.
func (s *socket) answers(seq uint32, yield func(attributes []byte) error) error {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(s.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		done, err := read(buf[:n], seq, yield)
		if done || err != nil {
			return err
		}
	}
}

func read(b []byte, seq uint32, yield func([]byte) error) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, fmt.Errorf("read an answer of %d bytes that says it has %d", len(b), size)
		}
		typ, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		last := binary.NativeEndian.Uint32(b[8:]) == seq
		switch {
		case typ == unix.NLMSG_ERROR || typ == unix.NLMSG_DONE:
			if err := errnoOf(b[:size]); err != nil {
				return true, err
			}
			if last {
				return true, nil
			}
		case yield != nil && size >= headerSize:
			if err := yield(b[headerSize:size]); err != nil {
				return true, err
			}
			// A question that was not for a list has one answer.
			if last && flags&unix.NLM_F_MULTI == 0 {
				return true, nil
			}
		}
		b = b[min(len(b), align(size)):]
	}
	return false, nil
}

func errnoOf(message []byte) error {
	if len(message) < unix.NLMSG_HDRLEN+4 {
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(message[unix.NLMSG_HDRLEN:]))
	if code == 0 {
		return nil
	}
	return unix.Errno(-code)
}

func align(n int) int { return (n + 3) &^ 3 }

// openAttr begins an attribute; closeAttr ends it with its length and padding.
func openAttr(b []byte, typ uint16) ([]byte, int) {
	start := len(b)
	b = binary.NativeEndian.AppendUint16(b, 0)
	return binary.NativeEndian.AppendUint16(b, typ), start
}

func closeAttr(b []byte, start int) []byte {
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendAttr(b []byte, typ uint16, data ...byte) []byte {
	b, start := openAttr(b, typ)
	return closeAttr(append(b, data...), start)
}

func appendText(b []byte, typ uint16, text string) []byte {
	b, start := openAttr(b, typ)
	return closeAttr(append(append(b, text...), 0), start)
}

func appendUint64(b []byte, typ uint16, v uint64) []byte {
	b, start := openAttr(b, typ)
	return closeAttr(binary.BigEndian.AppendUint64(b, v), start)
}

// eachAttr walks over attributes; a malformed rest is left out.
func eachAttr(b []byte, yield func(typ uint16, data []byte)) {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return
		}
		yield(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:size])
		b = b[min(len(b), align(size)):]
	}
}
