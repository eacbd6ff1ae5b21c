package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Host is one machine of the lab.
type Host struct {
	Name string

	lab    *Lab
	root   string // its root directory, as this process sees it
	logs   string
	keeper *exec.Cmd
	pipe   io.Closer // closing it ends the keeper
	ns     []namespace
	link   *netlink.Handle // speaks to the host's network
	cgroup *group

	addrs []netip.Addr // single addresses, in the order given
	outer string       // the internet's end of its link
	roots []string     // besides its own, as the host sees them

	started atomic.Int64   // processes
	wait    sync.WaitGroup // until they are reaped
}

// namespace is one of a host's namespaces, held open.
type namespace struct {
	file *os.File
	kind int
}

// keeper is the first process of a host. It ignores the end of children, so
// that the kernel reaps the orphans which fall to it, and lives until its
// standard input ends.
const keeper = `trap "" CHLD; exec cat`

// Host adds a machine to the lab. Each address is "192.0.2.1", "2001:db8::1" or
// a prefix such as "198.18.0.0/16", of which every address is the host's own.
// The first single address of each family, or else the first of a prefix, is
// where its connections come from unless they choose.
func (l *Lab) Host(name string, addrs ...string) *Host {
	l.t.Helper()
	h := l.newHost(name)
	prefixes, err := parsePrefixes(addrs)
	if err == nil {
		err = h.connect(prefixes)
	}
	if err != nil {
		l.t.Fatalf("connect host %s: %v", name, err)
	}
	return h
}

// newHost makes a host that is connected to nothing.
func (l *Lab) newHost(name string) *Host {
	l.t.Helper()
	dir := filepath.Join(l.dir.path, name)
	h := &Host{Name: name, lab: l, root: filepath.Join(dir, "root"), logs: filepath.Join(dir, "log")}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"make its directories", h.mkdirs},
		{"start its keeper", h.start},
		{"count its processor time", h.account},
		{"mount its root", h.mountRoot},
		{"raise its loopback", h.raiseLoopback},
		{"name its resolver", func() error { return h.writeResolver(l.resolver) }},
	} {
		if err := step.do(); err != nil {
			h.close()
			l.t.Fatalf("make host %s: %s: %v", name, step.what, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = append(l.hosts, h)
	return h
}

func (h *Host) mkdirs() error {
	for _, dir := range []string{h.root, h.logs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// start makes the namespaces with the keeper in them.
func (h *Host) start() error {
	h.keeper = exec.Command("/bin/sh", "-c", keeper)
	h.keeper.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true, // a Ctrl-C in the terminal is ours to handle
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		// This flag, unlike its namesake for clone, also keeps mounts of the
		// host from showing on the machine.
		Unshareflags: unix.CLONE_NEWNS,
	}
	pipe, err := h.keeper.StdinPipe()
	if err != nil {
		return err
	}
	h.pipe = pipe
	if err := h.keeper.Start(); err != nil {
		return err
	}
	return h.openNamespaces()
}

// openNamespaces opens them in the order in which they can be entered: the
// paths are the machine's, so the mount namespace comes last.
func (h *Host) openNamespaces() error {
	for _, n := range []struct {
		name string
		kind int
	}{
		{"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}, {"ipc", unix.CLONE_NEWIPC},
		{"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS},
	} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", h.keeper.Process.Pid, n.name))
		if err != nil {
			return err
		}
		h.ns = append(h.ns, namespace{f, n.kind})
	}
	var err error
	h.link, err = netlink.NewHandleAt(netns.NsHandle(h.ns[0].file.Fd()))
	return err
}

// PID is the process id of the host's keeper; nsenter -t PID -a is a shell on
// the host.
func (h *Host) PID() int { return h.keeper.Process.Pid }

// Path is where this process finds a file of the host, mounts excepted.
func (h *Host) Path(name string) string { return filepath.Join(h.root, name) }

// Addr is the host's first single IPv4 address, Addr6 the first IPv6 one.
func (h *Host) Addr() netip.Addr  { return h.first(netip.Addr.Is4) }
func (h *Host) Addr6() netip.Addr { return h.first(netip.Addr.Is6) }

func (h *Host) first(family func(netip.Addr) bool) netip.Addr {
	for _, a := range h.addrs {
		if family(a) {
			return a
		}
	}
	return netip.Addr{}
}

// Do runs f on the host: what f opens, dials, mounts and starts is the host's.
// It holds for the goroutine of f alone, not for others that f starts. Sockets
// and processes made in f stay on the host and may be used from anywhere.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	go offMainThread(func() {
		if err := h.enter(); err != nil {
			done <- fmt.Errorf("enter host %s: %w", h.Name, err)
			return
		}
		done <- f()
	})
	return <-done
}

// offMainThread runs f on a thread that ends with it. The main thread cannot
// end, and what it sees is what /proc/self shows of this process: it must not
// move to a host.
func offMainThread(f func()) {
	runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
	if unix.Gettid() != os.Getpid() {
		f()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// enter moves this thread to the host. A thread that shares its root and
// working directory with others cannot change its mount namespace.
func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, n := range h.ns {
		if err := unix.Setns(int(n.file.Fd()), n.kind); err != nil {
			return err
		}
	}
	return nil
}

// Dial connects from the host to an address.
func (h *Host) Dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	return h.DialFrom(ctx, netip.Addr{}, to)
}

// DialFrom connects from one of the host's addresses; the zero address leaves
// the choice to the host.
func (h *Host) DialFrom(ctx context.Context, from netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Control: bindLate}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// bindLate makes the kernel choose the port when the peer is known, so that
// ports run out by peer and not for the whole host.
func bindLate(_, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	if ctl != nil {
		return ctl
	}
	return err
}

// Listen listens on the host, for plain TCP: the listeners that Go makes by
// itself are multipath ones, which lack socket options.
func (h *Host) Listen(at netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = config.Listen(h.lab.ctx, "tcp", at.String())
		return err
	})
	return ln, err
}

// close ends every process of the host and waits until they are gone.
func (h *Host) close() {
	if h.link != nil {
		h.link.Close()
	}
	for _, n := range h.ns {
		n.file.Close()
	}
	if h.keeper != nil && h.keeper.Process != nil {
		h.pipe.Close()
		_ = h.keeper.Process.Kill() // its status says nothing
		_ = h.keeper.Wait()         // returns when the whole process namespace is empty
	}
	h.wait.Wait()
	h.cgroup.remove()
}
