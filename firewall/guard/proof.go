package guard

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSYN is room for the headers of an opening packet: IPv6 with extension
// headers, and TCP with all options.
const maxSYN = 512

// witness asks the kernel who is at the other end of a socket. It believes
// nothing that the process which handed the socket over could have made up:
//
//   - a socket of another network namespace, where any user may own any
//     address: the namespace has another cookie (SO_NETNS_COOKIE);
//   - a connection that was made from here, to an innocent host: the kernel
//     keeps the opening packet only of connections that a listener accepted
//     (TCP_SAVED_SYN), and forgets it when the socket is disconnected. Its
//     source is the source;
//   - a connection that nobody used: the kernel counts the bytes that came.
//
// A listener under a SYN flood answers with cookies and has no opening packet
// to keep. Such an offender is refused at the gate only: making an exception
// would let a mail process that was taken over ban whom it likes, for it can
// flood itself.
//
// The kernel hands an opening packet out once. A second offence of the same
// connection finds none; by then its source is banned, and that is looked at
// first.
type witness struct {
	namespace uint64
}

func newWitness() (witness, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return witness{}, err
	}
	defer unix.Close(fd)
	cookie, err := getUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return witness{cookie}, err
}

// look says whose connection fd is, as far as the kernel knows of one: a TCP
// socket of our namespace with a protected local port that data came in on.
// Where it answers NoData the connection stands all the same.
// peer is not valid when the connection is broken off already.
func (w witness) look(fd int, ports []uint16) (peer netip.Addr, outcome Outcome) {
	if !w.isTCP(fd) {
		return netip.Addr{}, NotTCP
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return netip.Addr{}, NotTCP
	}
	if info.State == tcpListen || info.State == tcpSynSent || info.State == tcpSynRecv {
		return netip.Addr{}, NotAccepted
	}
	local, err := unix.Getsockname(fd)
	if err != nil || !slices.Contains(ports, addrPort(local).Port()) {
		return netip.Addr{}, WrongPort
	}
	if remote, err := unix.Getpeername(fd); err == nil {
		peer = addrPort(remote).Addr()
	}
	if info.Bytes_received == 0 || info.Data_segs_in == 0 { // a FIN counts as a byte
		return peer, NoData
	}
	return peer, 0
}

// source says who opened the connection of fd, by its opening packet. peer is
// what look found.
func (w witness) source(fd int, peer netip.Addr) (netip.Addr, Outcome) {
	opened, ok := savedSYN(fd)
	if !ok || peer.IsValid() && peer != opened {
		return netip.Addr{}, NotAccepted
	}
	return opened, 0
}

func (w witness) isTCP(fd int) bool {
	domain, err1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	protocol, err3 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	namespace, err4 := getUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return err1 == nil && err2 == nil && err3 == nil && err4 == nil &&
		(domain == unix.AF_INET || domain == unix.AF_INET6) &&
		kind == unix.SOCK_STREAM && protocol == unix.IPPROTO_TCP && namespace == w.namespace
}

// The TCP states that are no connection, or not yet.
const (
	tcpSynSent = 2
	tcpSynRecv = 3
	tcpListen  = 10
)

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func savedSYN(fd int) (netip.Addr, bool) {
	var b [maxSYN]byte
	n := uint32(len(b))
	if getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, unsafe.Pointer(&b), &n) != nil {
		return netip.Addr{}, false
	}
	return sourceOf(b[:n])
}

// sourceOf reads the source of an IP packet (RFC 791 §3.1, RFC 8200 §3).
func sourceOf(packet []byte) (netip.Addr, bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[12:16])), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[8:24])).Unmap(), true
	}
	return netip.Addr{}, false
}

func getUint64(fd, level, option int) (uint64, error) {
	var b [8]byte
	n := uint32(len(b))
	err := getsockopt(fd, level, option, unsafe.Pointer(&b), &n)
	return binary.NativeEndian.Uint64(b[:]), err
}

// getsockopt is for the options that package unix has no function for.
func getsockopt(fd, level, option int, value unsafe.Pointer, size *uint32) error {
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(value), uintptr(unsafe.Pointer(size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
