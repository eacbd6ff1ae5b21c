package enginetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what has to happen. It is never waited
// out unless the test fails.
const patience = 20 * time.Second

func serverFor(src netip.Addr) netip.Addr {
	if src.Is4() {
		return server4.Addr()
	}
	return server6.Addr()
}

// connect opens a connection from src to the server and waits until the server
// has counted and closed it; it ends with ctx.
func (w *World) connect(ctx context.Context, src netip.Addr, port int) error {
	return w.in(w.Client, func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))}
		c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(serverFor(src), uint16(port)).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
		return err
	})
}

// Connects fails the test unless src can connect to the port.
func (w *World) Connects(src string, port int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.connect(ctx, netip.MustParseAddr(src), port); err != nil {
		w.t.Fatalf("%s does not get through to port %d: %v", src, port, err)
	}
}

// Silent fails the test unless a connection of src stays without an answer at
// least until seen says that the packet came and was dropped.
func (w *World) Silent(src string, port int, seen func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	a := netip.MustParseAddr(src)
	before := w.Accepted(a)
	done := make(chan error, 1)
	go func() { done <- w.connect(ctx, a, port) }()
	w.eventually(fmt.Sprintf("a packet of %s to port %d is counted as dropped", src, port), seen)
	select {
	case err := <-done:
		w.t.Fatalf("%s to port %d: answered (%v)", src, port, err)
	default:
	}
	cancel()
	<-done
	if after := w.Accepted(a); after != before {
		w.t.Fatalf("the server took %d connections of %s", after-before, src)
	}
}

// eventually polls until cond holds.
func (w *World) eventually(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %s for nothing: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Shape is how a SYN is wrapped: what other filters have been got around with.
type Shape struct {
	Name    string
	Options int // bytes of options in an IPv4 header, a multiple of 4
	Headers int // destination-options headers before TCP in IPv6
}

// Sender sends SYNs on the client's interface as fast as is sensible, and
// counts the answers of the server.
type Sender struct {
	Sent     atomic.Int64
	Answered atomic.Int64
	cancel   context.CancelFunc
	done     chan error
}

// Send begins to send SYNs of src to a port.
func (w *World) Send(src string, port int, shape Shape) *Sender {
	w.t.Helper()
	a := netip.MustParseAddr(src)
	ctx, cancel := context.WithCancel(w.t.Context())
	s := &Sender{cancel: cancel, done: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		s.done <- w.in(w.Client, func() error { return s.run(ctx, w.frame(a, port, shape), a, port, ready) })
	}()
	w.t.Cleanup(cancel)
	select {
	case <-ready:
	case err := <-s.done:
		w.t.Fatalf("send packets: %v", err)
	}
	return s
}

// Stop ends it, after what was sent has been answered or not.
func (s *Sender) Stop(w *World) {
	w.t.Helper()
	s.cancel()
	w.must("send packets", <-s.done)
}

// Inject sends one frame on the client's interface.
func (w *World) Inject(frame []byte) {
	w.t.Helper()
	w.must("send a frame", w.in(w.Client, func() error {
		fd, err := packetSocket()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.Write(fd, frame)
		return err
	}))
}

// HiddenPort is a first fragment of src that is too short to have a port.
func (w *World) HiddenPort(src string) []byte {
	const payload = 2
	a := netip.MustParseAddr(src)
	f := w.frame(a, Mail, Shape{})
	if a.Is4() {
		ip := f[14:34]
		binary.BigEndian.PutUint16(ip[2:], 20+payload)
		ip[6], ip[10], ip[11] = 0x20, 0, 0 // more fragments
		binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
		return append(f[:34+payload], make([]byte, 60-34-payload)...)
	}
	f[14+6] = unix.IPPROTO_FRAGMENT
	binary.BigEndian.PutUint16(f[14+4:], 8+payload)
	f = append(f[:54], 6, 0, 0, 1, 0, 0, 0, 7) // offset 0, more fragments
	return append(f, make([]byte, payload)...)
}

func (s *Sender) run(ctx context.Context, frame []byte, src netip.Addr, port int, ready chan<- struct{}) error {
	fd, err := packetSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	close(ready)
	buf := make([]byte, 2048)
	tcp := len(frame) - 20
	for n := uint16(0); ctx.Err() == nil; n++ {
		setSourcePort(frame, tcp, 10000+n%50000)
		if _, err := unix.Write(fd, frame); err != nil && err != unix.ENOBUFS {
			return fmt.Errorf("send: %w", err)
		}
		s.Sent.Add(1)
		s.hear(fd, buf, src, port)
		if n%16 == 0 {
			time.Sleep(time.Millisecond) // leave the processor to what is tested
		}
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.hear(fd, buf, src, port)
	}
	return nil
}

// hear counts the answers that have come.
func (s *Sender) hear(fd int, buf []byte, src netip.Addr, port int) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		if answers(buf[:n], src, port) {
			s.Answered.Add(1)
		}
	}
}

func packetSocket() (fd int, err error) {
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	i, err := net.InterfaceByName(peer)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind a packet socket: %w", err)
	}
	return fd, nil
}

// answers says whether a frame is the server's SYN-ACK to src.
func answers(f []byte, src netip.Addr, port int) bool {
	var dst netip.Addr
	var tcp []byte
	switch {
	case len(f) >= 54 && f[12] == 0x08 && f[13] == 0x00 && f[23] == 6:
		dst, tcp = netip.AddrFrom4([4]byte(f[30:34])), f[14+int(f[14]&0xf)*4:]
	case len(f) >= 74 && f[12] == 0x86 && f[13] == 0xdd && f[20] == 6:
		dst, tcp = netip.AddrFrom16([16]byte(f[38:54])), f[54:]
	default:
		return false
	}
	const synAck = 0x12
	return dst == src && len(tcp) >= 14 && int(binary.BigEndian.Uint16(tcp)) == port && tcp[13]&synAck == synAck
}

// frame is a SYN of src in shape.
func (w *World) frame(src netip.Addr, port int, shape Shape) []byte {
	dst := serverFor(src)
	f := append(append([]byte{}, w.macs.server...), w.macs.client...)
	if src.Is4() {
		f = append(f, 0x08, 0x00)
		f = append(f, header4(src, dst, shape.Options)...)
	} else {
		f = append(f, 0x86, 0xdd)
		f = append(f, header6(src, dst, shape.Headers)...)
	}
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[2:], uint16(port))
	tcp[12], tcp[13] = 5<<4, 0x02
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo(src, dst), tcp))
	return append(f, tcp...)
}

func header4(src, dst netip.Addr, options int) []byte {
	h := make([]byte, 20+options)
	h[0], h[8], h[9] = 4<<4|byte(len(h)/4), 64, 6
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+20))
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	for i := 20; i < len(h); i++ {
		h[i] = 1 // no operation
	}
	binary.BigEndian.PutUint16(h[10:], checksum(0, h))
	return h
}

func header6(src, dst netip.Addr, headers int) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 6<<4, 6, 64
	binary.BigEndian.PutUint16(h[4:], uint16(8*headers+20))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	next := 6
	for range headers {
		h[next] = unix.IPPROTO_DSTOPTS
		next = len(h)
		h = append(h, 6, 0, 1, 4, 0, 0, 0, 0) // PadN
	}
	return h
}

// setSourcePort changes the port and what of the checksum depends on it
// (RFC 1624).
func setSourcePort(f []byte, tcp int, port uint16) {
	old := binary.BigEndian.Uint16(f[tcp:])
	sum := uint32(^binary.BigEndian.Uint16(f[tcp+16:])) + uint32(^old) + uint32(port)
	binary.BigEndian.PutUint16(f[tcp:], port)
	binary.BigEndian.PutUint16(f[tcp+16:], ^fold(sum))
}

func pseudo(src, dst netip.Addr) (sum uint32) {
	b := append(src.AsSlice(), dst.AsSlice()...)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum + 6 + 20
}

func checksum(sum uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^fold(sum)
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
