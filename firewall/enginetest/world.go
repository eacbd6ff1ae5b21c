// Package enginetest holds every firewall.Enforcer to the same meaning, with
// real connections.
//
// A test of an engine calls Run, and its TestMain calls Main. Each test gets a
// World of its own: two network namespaces joined by a veth pair, a server that
// listens on a protected port and on another, and a client that has as many
// addresses as the test likes. Nothing is taken from the machine but the kernel,
// and nothing is left behind. It takes root.
package enginetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// What every World has.
const (
	Mail      = 25     // the protected port
	Other     = 26     // the server listens there too
	Interface = "edge" // of the server
	peer      = "net"  // of the client
)

var (
	server4 = netip.MustParsePrefix("198.18.0.1/30")
	client4 = netip.MustParsePrefix("198.18.0.2/30")
	server6 = netip.MustParsePrefix("fd18::1/64")
	client6 = netip.MustParsePrefix("fd18::2/64")
)

// World is a server and a client, each in a network namespace.
type World struct {
	t      testing.TB
	Server netns.NsHandle
	Client netns.NsHandle
	macs   struct{ server, client net.HardwareAddr }

	mu       sync.Mutex
	accepted map[netip.Addr]int
}

// NewWorld makes a World that ends with the test.
func NewWorld(t testing.TB) *World {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces, packet filters")
	}
	w := &World{t: t, accepted: make(map[netip.Addr]int)}
	w.Server, w.Client = newNamespace(t), newNamespace(t)
	w.Plug()
	w.must("give the client its addresses", w.in(w.Client, ownAll))
	for _, port := range []int{Mail, Other} {
		w.must("listen", w.in(w.Server, func() error { return w.listen(port) }))
	}
	return w
}

func (w *World) must(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// Inside runs f in the server's namespace.
func (w *World) Inside(f func() error) error { return w.in(w.Server, f) }

// in runs f on a thread of its own that is in ns and ends with f, so that no
// other goroutine ever gets to run there.
func (w *World) in(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	made := make(chan netns.NsHandle, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		ns, err := netns.Get()
		if err != nil {
			failed <- err
			return
		}
		made <- ns
	}()
	select {
	case ns := <-made:
		t.Cleanup(func() { ns.Close() })
		return ns
	case err := <-failed:
		t.Fatalf("make a network namespace: %v", err)
		return netns.None()
	}
}

// makePair makes the veth pair; it runs in the server's namespace. Two queues,
// as the driver wants one for each processor to run a program natively.
func (w *World) makePair() error {
	a := netlink.NewLinkAttrs()
	a.Name, a.NumRxQueues, a.NumTxQueues = Interface, runtime.NumCPU(), runtime.NumCPU()
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: a, PeerName: peer, PeerNamespace: netlink.NsFd(w.Client),
		PeerNumRxQueues: uint32(runtime.NumCPU()), PeerNumTxQueues: uint32(runtime.NumCPU()),
	})
}

// Unplug removes the server's interface; Plug brings a new one of that name.
func (w *World) Unplug() {
	w.t.Helper()
	w.must("remove the interface", w.in(w.Server, func() error {
		l, err := netlink.LinkByName(Interface)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	}))
}

// Plug joins the namespaces, at first and after Unplug.
func (w *World) Plug() {
	w.t.Helper()
	w.must("join the namespaces", w.in(w.Server, w.makePair))
	w.must("set up the server", w.in(w.Server, func() error { return setUp(Interface, server4, server6, client4, client6) }))
	w.must("set up the client", w.in(w.Client, func() error { return setUp(peer, client4, client6, server4, server6) }))
	w.must("read a hardware address", w.in(w.Client, func() (err error) { w.macs.client, err = mac(peer); return err }))
	w.must("read a hardware address", w.in(w.Server, func() (err error) { w.macs.server, err = mac(Interface); return err }))
	w.must("introduce the client", w.in(w.Server, func() error { return introduce(Interface, w.macs.client, client4, client6) }))
	w.must("introduce the server", w.in(w.Client, func() error { return introduce(peer, w.macs.server, server4, server6) }))
}

// introduce makes neighbours known, so that no test waits for them to be asked.
func introduce(name string, mac net.HardwareAddr, neighbours ...netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range neighbours {
		n := &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: p.Addr().AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("introduce %s: %w", p, err)
		}
	}
	return nil
}

// clientNets are the client's: it answers for, and may send from, every address
// in them.
var clientNets = []string{
	"10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/23", "198.51.100.0/24", "203.0.113.0/24", "169.254.0.0/16", "2001:db8::/32",
}

// ownAll gives the client its addresses by local routes: an IPv6 address that
// is added to an interface is not usable at once, whatever its flags.
func ownAll() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, n := range clientNets {
		_, dst, err := net.ParseCIDR(n)
		if err != nil {
			return err
		}
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST})
		if err != nil {
			return fmt.Errorf("own %s: %w", n, err)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0)
}

// setUp gives the interface its addresses and sends everything to the other
// side.
func setUp(name string, own4, own6, gateway4, gateway6 netip.Prefix) error {
	if err := raise("lo"); err != nil {
		return err
	}
	// Duplicate address detection would hold IPv6 back for a second.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil {
		return err
	}
	for _, p := range []netip.Prefix{own4, own6} {
		if err := addAddr(name, p); err != nil {
			return err
		}
	}
	if err := raise(name); err != nil {
		return err
	}
	for _, p := range []netip.Prefix{gateway4, gateway6} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: p.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("route to %s: %w", p, err)
		}
	}
	return nil
}

func raise(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func addAddr(name string, p netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := netlink.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add address %s: %w", p, err)
	}
	return nil
}

func mac(name string) (net.HardwareAddr, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	return l.Attrs().HardwareAddr, nil
}

// listen takes IPv4 connections on an IPv6 socket, as the appliance does, and
// counts them by source.
func (w *World) listen(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("::", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.note(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			c.Close()
		}
	}()
	return nil
}

func (w *World) note(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted[a]++
}

// Accepted says how many connections of a source the server has taken.
func (w *World) Accepted(a netip.Addr) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accepted[a]
}

// unique numbers what tests name in places that are shared by the machine.
var unique atomic.Int64

// PinDir is a directory in the BPF file system that nobody else uses, for an
// engine that pins.
func PinDir(t testing.TB) string {
	dir := fmt.Sprintf("/sys/fs/bpf/mailweir-test-%d-%d", os.Getpid(), unique.Add(1))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
