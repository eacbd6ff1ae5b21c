package guard

import (
	"context"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// Whatever a mail process hands over that was taken over by an attacker: nobody
// is banned who did not connect to a protected port and send something.
func TestLyingMail(t *testing.T) {
	w := newWorld(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	l := w.listen(edge4)
	var innocent net.Listener // 203.0.113.99, listens on ports 25 and 4711
	w.inside(func() { innocent = must(net.Listen("tcp4", "203.0.113.99:4711"))(t) })
	t.Cleanup(func() { innocent.Close() })

	for name, lie := range map[string]struct {
		make func(t *testing.T) int
		want Outcome
	}{
		"not connected":         {func(t *testing.T) int { return socket(t, unix.AF_INET, unix.SOCK_STREAM) }, WrongPort},
		"not connected, bound":  {func(t *testing.T) int { return boundSocket(t) }, NoData},
		"listening":             {func(t *testing.T) int { return descriptor(t, l) }, NotAccepted},
		"UDP":                   {func(t *testing.T) int { return udpSocket(t) }, NotTCP},
		"raw":                   {func(t *testing.T) int { return socket(t, unix.AF_INET, unix.SOCK_RAW) }, NotTCP},
		"unix":                  {func(t *testing.T) int { return socket(t, unix.AF_UNIX, unix.SOCK_STREAM) }, NotTCP},
		"no socket":             {func(t *testing.T) int { return file(t) }, NotTCP},
		"outbound":              {func(t *testing.T) int { return outbound(t, innocent, ":0") }, WrongPort},
		"outbound from port 25": {func(t *testing.T) int { return outbound(t, innocent, "198.51.100.3:25") }, NotAccepted},
		"listener turned":       {func(t *testing.T) int { return turnedListener(t, innocent) }, NotAccepted},
		"accepted, turned":      {func(t *testing.T) int { return turnedSession(t, w, l, innocent) }, NotAccepted},
		"accepted, unbound":     {func(t *testing.T) int { return disconnected(t, w, l) }, NoData},
		"sent nothing":          {func(t *testing.T) int { return silent(t, w, l, "203.0.113.7") }, NoData},
		"sent nothing but FIN":  {func(t *testing.T) int { return silentEnd(t, w, l) }, NoData},
		"another port":          {func(t *testing.T) int { return otherPort(t, w) }, WrongPort},
		"another namespace":     {func(t *testing.T) int { return otherNamespace(t) }, NotTCP},
	} {
		t.Run(name, func(t *testing.T) {
			var r Result
			fd := lie.make(t)
			eventually(t, "an answer", func() bool {
				var err error
				r, err = g.client().offend(context.Background(), fd, request{reason: firewall.Harvest, ref: 1})
				return err == nil
			})
			if r.Outcome != lie.want {
				t.Errorf("guard answers %v, want %v", r.Outcome, lie.want)
			}
			if n := g.s.ledger.Len(); n != 0 || len(f.all()) != 0 {
				t.Fatalf("an innocent is banned: %v", f.all())
			}
		})
	}
}

func socket(t *testing.T, domain, kind int) int {
	t.Helper()
	protocol := 0
	if kind == unix.SOCK_RAW {
		protocol = unix.IPPROTO_TCP
	}
	fd := must(unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol))(t)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func boundSocket(t *testing.T) int {
	fd := socket(t, unix.AF_INET, unix.SOCK_STREAM)
	check(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 25, Addr: [4]byte{127, 0, 0, 5}}))
	return fd
}

func udpSocket(t *testing.T) int {
	fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	check(t, unix.Connect(fd, &unix.SockaddrInet4{Port: 25, Addr: [4]byte{203, 0, 113, 99}}))
	return fd
}

func file(t *testing.T) int {
	f := must(os.Open("/dev/null"))(t)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// descriptor is a duplicate of c's, as a plain number.
func descriptor(t *testing.T, c syscall.Conn) int {
	t.Helper()
	raw := must(c.SyscallConn())(t)
	var fd int
	var inner error
	check(t, raw.Control(func(have uintptr) { fd, inner = unix.FcntlInt(have, unix.F_DUPFD_CLOEXEC, 0) }))
	check(t, inner)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// answered has the innocent accept a connection and say something.
func answered(t *testing.T, innocent net.Listener) {
	t.Helper()
	c := must(innocent.Accept())(t)
	t.Cleanup(func() { c.Close() })
	must(c.Write([]byte("220 hello\r\n")))(t)
}

// heard waits for what answered wrote.
func heard(t *testing.T, fd int) {
	t.Helper()
	var b [11]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_WAITALL)
	if n != len(b) || err != nil {
		t.Fatalf("the innocent said %d bytes, %v", n, err)
	}
}

func outbound(t *testing.T, innocent net.Listener, local string) int {
	fd := socket(t, unix.AF_INET, unix.SOCK_STREAM)
	check(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1))
	if local != ":0" {
		check(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		check(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 25, Addr: [4]byte{198, 51, 100, 3}}))
	}
	return toInnocent(t, fd, innocent)
}

func toInnocent(t *testing.T, fd int, innocent net.Listener) int {
	t.Helper()
	check(t, unix.Connect(fd, &unix.SockaddrInet4{Port: 4711, Addr: [4]byte{203, 0, 113, 99}}))
	answered(t, innocent)
	heard(t, fd)
	return fd
}

// turnedListener is the attack that needs no privilege: a listener on port 25
// that mail holds is shut down and connected to an innocent host.
func turnedListener(t *testing.T, innocent net.Listener) int {
	l := listen(t, "198.51.100.4:25", nil)
	fd := descriptor(t, l)
	check(t, unix.SetNonblock(fd, false))
	check(t, unix.Shutdown(fd, unix.SHUT_RDWR))
	return toInnocent(t, fd, innocent)
}

// turnedSession is a connection that an accomplice opened, disconnected and
// connected to an innocent host, from the same port.
func turnedSession(t *testing.T, w *world, l *net.TCPListener, innocent net.Listener) int {
	fd := disconnected(t, w, l)
	check(t, unix.SetNonblock(fd, false))
	return toInnocent(t, fd, innocent)
}

func disconnected(t *testing.T, w *world, l *net.TCPListener) int {
	_, ours := w.visit(l, "203.0.113.66")
	fd := descriptor(t, ours)
	unspec := unix.RawSockaddrAny{Addr: unix.RawSockaddr{Family: unix.AF_UNSPEC}}
	check(t, connectRaw(fd, &unspec))
	check(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 25, Addr: [4]byte{198, 51, 100, 5}}))
	return fd
}

func silent(t *testing.T, w *world, l *net.TCPListener, from string) int {
	w.dial(from, edge4, "25")
	ours := must(l.AcceptTCP())(t)
	t.Cleanup(func() { ours.Close() })
	return descriptor(t, ours)
}

func silentEnd(t *testing.T, w *world, l *net.TCPListener) int {
	theirs := w.dial("203.0.113.7", edge4, "25")
	ours := must(l.AcceptTCP())(t)
	t.Cleanup(func() { ours.Close() })
	check(t, theirs.CloseWrite())
	ours.Read(make([]byte, 1))
	return descriptor(t, ours)
}

func otherPort(t *testing.T, w *world) int {
	l := listen(t, "198.51.100.1:2525", nil)
	theirs := w.dial("203.0.113.7", edge4, "2525")
	ours := must(l.AcceptTCP())(t)
	t.Cleanup(func() { ours.Close() })
	say(t, theirs, ours)
	return descriptor(t, ours)
}

// otherNamespace is what any user can make who may make user namespaces: a
// network of his own where he has the innocent's address and ours.
func otherNamespace(t *testing.T) (fd int) {
	onThread(t, func() {
		check(t, unix.Unshare(unix.CLONE_NEWNET))
		addAddr(t, "lo", "198.51.100.1/32")
		addAddr(t, "lo", "203.0.113.99/32")
		check(t, upLoopback())
		l := listen(t, "198.51.100.1:25", nil)
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("203.0.113.99")}}
		theirs := must(d.Dial("tcp4", "198.51.100.1:25"))(t).(*net.TCPConn)
		defer theirs.Close()
		ours := must(l.AcceptTCP())(t)
		t.Cleanup(func() { ours.Close() })
		say(t, theirs, ours)
		fd = descriptor(t, ours)
	})
	return fd
}
