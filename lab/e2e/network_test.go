package e2e

import (
	"context"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mailweir/firewall/guard"
)

// strangeNetwork is the liar's child: in a network where it may own any address
// it makes a connection from the victim's to port 25 that looks just as one of
// a stranger does, and hands the accepted socket to its parent.
func strangeNetwork() {
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	for _, a := range []string{victim + "/32", edge4.Addr().String() + "/32"} {
		p, err := netlink.ParseAddr(a)
		must(err)
		must(netlink.AddrAdd(lo, p))
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // guard.SaveSYN wants plain TCP
	ln, err := config.Listen(context.Background(), "tcp4", edge4.String())
	must(err)
	must(guard.SaveSYN(ln.(*net.TCPListener)))
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(victim + ":0"))}
	c, err := d.Dial("tcp4", edge4.String())
	must(err)
	_, err = c.Write([]byte("EHLO victim\r\n"))
	must(err)
	conn, err := ln.Accept()
	must(err)
	must(readSome(conn))
	f, err := conn.(*net.TCPConn).File()
	must(err)
	must(unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0))
}

func must(err error) {
	if err != nil {
		log.Fatalf("the liar's network: %v", err)
	}
}
