package guard

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The tests run in a network namespace of their own, "the edge", and in a mount
// namespace, so that they leave the machine alone: the test binary starts itself there. A second one,
// "the outside", is made by each test that needs strangers.
//
//	edge 198.51.100.1, 2001:db8:ed::1  ──veth──  outside: 203.0.113.0/24, 2001:db8:bad::/48, all local
const inEdge = "MAILWEIR_GUARD_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(inEdge) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "keep mounts of the tests to themselves:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inEdge+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "start the tests in a network namespace:", err)
		}
		os.Exit(1)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
}

// world is the edge and the outside, joined.
type world struct {
	t       testing.TB
	outside netns.NsHandle
}

const (
	edge4 = "198.51.100.1"
	edge6 = "2001:db8:ed::1"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	needRoot(t)
	w := &world{t: t}
	onThread(t, func() {
		home := must(netns.Get())(t)
		defer home.Close()
		w.outside = must(netns.New())(t)
		check(t, netns.Set(home))
	})
	t.Cleanup(func() { w.outside.Close() })
	w.join()
	return w
}

func (w *world) join() {
	t := w.t
	withoutDAD := func() { check(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)) }
	withoutDAD() // else link-local addresses are not there in the first second
	w.inside(withoutDAD)
	lo := must(netlink.LinkByName("lo"))(t)
	check(t, netlink.LinkSetUp(lo))
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "edge0"}, PeerName: "out0",
		PeerNamespace: netlink.NsFd(w.outside),
	}
	check(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { netlink.LinkDel(veth) })
	addAddr(t, "edge0", "198.51.100.1/24")
	for _, a := range []string{"198.51.100.3/24", "198.51.100.4/24", "198.51.100.5/24"} {
		addAddr(t, "edge0", a)
	}
	addAddr(t, "edge0", "2001:db8:ed::1/64")
	check(t, netlink.LinkSetUp(veth))
	w.inside(func() {
		addAddr(t, "out0", "198.51.100.2/24")
		addAddr(t, "out0", "2001:db8:ed::2/64")
		out := must(netlink.LinkByName("out0"))(t)
		lo := must(netlink.LinkByName("lo"))(t)
		check(t, netlink.LinkSetUp(out))
		check(t, netlink.LinkSetUp(lo))
		for _, p := range []string{"203.0.113.0/24", "2001:db8:bad::/48"} { // any address of these is ours there
			route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
			check(t, netlink.RouteAdd(route))
		}
	})
	for p, via := range map[string]string{"203.0.113.0/24": "198.51.100.2", "2001:db8:bad::/48": "2001:db8:ed::2"} {
		check(t, netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Attrs().Index, Dst: ipNet(p), Gw: net.ParseIP(via)}))
	}
}

func addAddr(t testing.TB, iface, cidr string) {
	t.Helper()
	link := must(netlink.LinkByName(iface))(t)
	addr := must(netlink.ParseAddr(cidr))(t)
	addr.Flags = unix.IFA_F_NODAD
	check(t, netlink.AddrAdd(link, addr))
}

func ipNet(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}

// inside runs f in the outside.
func (w *world) inside(f func()) {
	w.t.Helper()
	onThread(w.t, func() {
		home := must(netns.Get())(w.t)
		defer home.Close()
		check(w.t, netns.Set(w.outside))
		defer netns.Set(home)
		f()
	})
}

// onThread runs f on a thread of its own, which ends with it. A test that
// failed there ends here too.
func onThread(t testing.TB, f func()) {
	t.Helper()
	finished := make(chan bool)
	go func() {
		ok := false
		defer func() { finished <- ok }()
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		f()
		ok = true
	}()
	if !<-finished {
		t.FailNow()
	}
}

// listen opens a protected listener of the edge, as the mail role has it.
func (w *world) listen(addr string) *net.TCPListener {
	w.t.Helper()
	return listen(w.t, net.JoinHostPort(addr, "25"), nil)
}

func listen(t testing.TB, addr string, control func(_, _ string, c syscall.RawConn) error) *net.TCPListener {
	t.Helper()
	config := net.ListenConfig{Control: control}
	config.SetMultipathTCP(false)
	l := must(config.Listen(context.Background(), "tcp", addr))(t).(*net.TCPListener)
	t.Cleanup(func() { l.Close() })
	check(t, SaveSYN(l))
	return l
}

// visit connects from the outside to l as addr, says something and returns
// both ends.
func (w *world) visit(l *net.TCPListener, from string) (theirs, ours *net.TCPConn) {
	w.t.Helper()
	target := edge4
	if netip.MustParseAddr(from).Is6() {
		target = edge6
	}
	theirs = w.dial(from, target, "25")
	ours = must(l.AcceptTCP())(w.t)
	w.t.Cleanup(func() { ours.Close() })
	say(w.t, theirs, ours)
	return theirs, ours
}

func (w *world) dial(from, to, port string) (conn *net.TCPConn) {
	w.t.Helper()
	w.inside(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second, Control: freebind}
		d.SetMultipathTCP(false)
		conn = must(d.Dial("tcp", net.JoinHostPort(to, port)))(w.t).(*net.TCPConn)
	})
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

// freebind lets a socket have an address that only a route makes local.
func freebind(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
}

// say sends a line and waits until it is there.
func say(t testing.TB, from, to *net.TCPConn) {
	t.Helper()
	must(from.Write([]byte("EHLO x\r\n")))(t)
	check(t, to.SetReadDeadline(time.Now().Add(5*time.Second)))
	must(io.ReadFull(to, make([]byte, 8)))(t)
	check(t, to.SetReadDeadline(time.Time{}))
}

// asUser runs f on a thread whose user is uid.
func asUser(t testing.TB, uid int, f func()) {
	t.Helper()
	onThread(t, func() {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Errorf("become user %d: %v", uid, errno)
			return
		}
		f()
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually waits for a condition; how long does not matter to the result.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
