package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mailweir/firewall/guard"
)

// firstPassed is the first descriptor that a service manager passes
// (sd_listen_fds(3)).
const firstPassed = 3

// Passed is what a service manager or weir run passed to this process.
type Passed struct {
	Listeners []*net.TCPListener
	Journal   *net.UnixConn // the machine's log, by the name below; nil where it was not passed
}

const journalName = "journal"

// PassedSockets returns the sockets that were passed, or none. LISTEN_PID=0 is
// how weir run says "you": it cannot know the number before the process exists.
// The variables are cleared, so that no child takes them for its own.
func PassedSockets() (p Passed, err error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n <= 0 || (pid != "0" && pid != strconv.Itoa(os.Getpid())) {
		return p, nil
	}
	for i := range n {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		if err := p.take(firstPassed+i, name); err != nil {
			CloseAll(p.Listeners)
			return Passed{}, err
		}
	}
	return p, prepare(p.Listeners)
}

func (p *Passed) take(fd int, name string) error {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "passed socket")
	defer f.Close()
	if name == journalName {
		c, err := net.FileConn(f)
		u, ok := c.(*net.UnixConn)
		if err != nil || !ok {
			return fmt.Errorf("passed descriptor %d is no unix socket (%v): mend ListenDatagram= of the socket unit", fd, err)
		}
		p.Journal = u
		return nil
	}
	l, err := net.FileListener(f)
	t, ok := l.(*net.TCPListener)
	if err != nil || !ok {
		return fmt.Errorf("passed descriptor %d is no listening TCP socket (%v): mend ListenStream= of the socket unit", fd, err)
	}
	p.Listeners = append(p.Listeners, t)
	return nil
}

// Listen binds the addresses of smtp.listen. IPv4 and IPv6 are separate
// sockets, so that no peer ever looks IPv4-mapped. They are plain TCP: Go's
// listeners are multipath ones (MPTCP) unless told otherwise, and those keep no
// opening packet for guard.
func Listen(ctx context.Context, addrs []netip.AddrPort) ([]*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var ls []*net.TCPListener
	for _, a := range addrs {
		network := "tcp4"
		if a.Addr().Is6() {
			network = "tcp6"
		}
		l, err := lc.Listen(ctx, network, a.String())
		if err != nil {
			CloseAll(ls)
			return nil, explainListen(a, err)
		}
		ls = append(ls, l.(*net.TCPListener))
	}
	return ls, prepare(ls)
}

// prepare has the kernel keep the opening packet of each connection, by which
// guard proves that the peer came to us and not we to him.
func prepare(ls []*net.TCPListener) error {
	for _, l := range ls {
		if err := guard.SaveSYN(l); err != nil {
			CloseAll(ls)
			return err
		}
	}
	return nil
}

func CloseAll(ls []*net.TCPListener) {
	for _, l := range ls {
		l.Close()
	}
}

// listenerFiles duplicates listeners for a child process.
func listenerFiles(ls []*net.TCPListener) ([]*os.File, error) {
	var files []*os.File
	for _, l := range ls {
		f, err := l.File()
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("pass the socket of %v on: %w", l.Addr(), err)
		}
		files = append(files, f)
	}
	return files, nil
}

// explainListen says what stands in the way and how to get round it.
func explainListen(a netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := "another process"
		if h, ok := portHolder(a); ok {
			who = h.String()
		}
		return fmt.Errorf("port %d is taken by %s: stop it, or choose another port with smtp.listen = [%q] in the configuration file",
			a.Port(), who, netip.AddrPortFrom(a.Addr(), 2525))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("may not listen on %v: ports below 1024 need root, so start weir run as root or set smtp.listen to a higher port", a)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("may not listen on %v: no interface has that address, so set smtp.listen to one that this machine has (ip addr)", a)
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("may not listen on %v: the kernel has no IPv6, so take the address out of smtp.listen", a)
	}
	return fmt.Errorf("listen on %v: %w", a, err)
}
