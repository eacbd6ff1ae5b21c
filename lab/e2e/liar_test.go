package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/lab"
	"mailweir/ref"
)

const (
	victim  = "198.51.100.99"
	honest  = "203.0.113.66" // who really connects to the liar's port
	liarEnv = "MAILWEIR_E2E_LIAR"
)

// lies are what a mail process that was taken over may try, to get the victim
// banned. Each returns the socket that it hands to guard.
var lies = []struct {
	name string
	tell func() (*net.TCPConn, error)
}{
	{"a connection that we made to the victim", func() (*net.TCPConn, error) {
		return dialVictim(0)
	}},
	{"the same, from a protected port", func() (*net.TCPConn, error) {
		return dialVictim(2525)
	}},
	{"a connection of the honest peer, turned to the victim", turned},
	{"a connection to ourselves, in the victim's name", inVictimsName},
	{"a connection in a network of our own", inOwnNetwork},
}

// TestLyingMailProcess runs the real guard, and in the place of mail a process
// with mail's user that tells guard lies. Guard must believe what the kernel
// knows and nothing else.
func TestLyingMailProcess(t *testing.T) {
	if os.Getenv(liarEnv) != "" {
		lie()
		return
	}
	s := &site{Lab: lab.New(t)}
	s.edge = s.Host("mx1", edge4.Addr().String())
	victimHost := s.Host("victim", victim)
	honestHost := s.Host("honest", honest)
	talkative(t, victimHost, netip.MustParseAddrPort(victim+":2525"))
	s.weir = s.edge.WeirRole("guard", strings.Replace(fmt.Sprintf(settings, "192.0.2.10:25"), "[firewall]", "[firewall]\nports = [25, 2525]", 1))

	ln, err := s.edge.Listen(netip.AddrPortFrom(edge4.Addr(), 25))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := guard.SaveSYN(ln.(*net.TCPListener)); err != nil {
		t.Fatal(err)
	}
	results := s.startLiar(t, ln.(*net.TCPListener))

	// The honest peer connects as often as the liar wants, and speaks.
	for range 2 {
		c, err := honestHost.Dial(t.Context(), edge4)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("EHLO honest\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	dec := json.NewDecoder(results)
	for range lies {
		var r told
		if err := dec.Decode(&r); err != nil {
			t.Fatalf("the liar ended early: %v", err)
		}
		t.Logf("%s: %s", r.Lie, r.Answer)
		if r.Banned {
			t.Errorf("guard believed %s", r.Lie)
		}
		if _, ok := s.ban(t, netip.MustParseAddr(victim)); ok {
			t.Fatalf("after %s the victim is banned", r.Lie)
		}
	}
	// The truth, told the same way, is believed: so the lies failed as lies.
	var r told
	if err := dec.Decode(&r); err != nil || !r.Banned {
		t.Fatalf("the truth was not believed: %+v, %v", r, err)
	}
	if _, ok := s.ban(t, netip.MustParseAddr(honest)); !ok {
		t.Error("guard said that it banned, and did not")
	}
	s.mustTimeOut(t, honestHost, netip.MustParseAddr(honest), edge4, "banned by the truth")
}

// told is what came of a lie.
type told struct {
	Lie    string
	Answer string
	Banned bool
}

// startLiar runs this test program on the edge as the mail user, with mail's
// listening socket, and returns what it prints.
func (s *site) startLiar(t *testing.T, ln *net.TCPListener) io.Reader {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(s.Dir(), "liar")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := s.edge.Command(program, "-test.run=^TestLyingMailProcess$")
	cmd.Env = append(cmd.Env, liarEnv+"=1")
	cmd.ExtraFiles = []*os.File{f}
	id := uint32(s.edge.UserID("weir-mail"))
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.edge.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return out
}

// talkative answers connections with some bytes, as a server does.
func talkative(t *testing.T, h *lab.Host, at netip.AddrPort) {
	t.Helper()
	ln, err := h.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "220 an innocent server\r\n")
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
}

// lie is the liar's whole life.
func lie() {
	if os.Getenv(liarEnv) == "network" {
		strangeNetwork()
		return
	}
	out := json.NewEncoder(os.Stdout)
	c := guard.NewClient("/run/mailweir")
	for _, l := range lies {
		_ = out.Encode(report(c, l.name, l.tell))
	}
	_ = out.Encode(report(c, "the truth", accepted))
}

// report hands a socket to guard and says what came of it.
func report(c *guard.Client, name string, tell func() (*net.TCPConn, error)) told {
	conn, err := tell()
	if err != nil {
		return told{Lie: name, Answer: "cannot even be told: " + err.Error()}
	}
	defer conn.Close()
	r, err := c.Offend(context.Background(), conn, firewall.Harvest, ref.New())
	if err != nil {
		return told{Lie: name, Answer: err.Error()}
	}
	return told{Lie: name, Answer: r.Outcome.String(), Banned: r.Outcome == guard.Banned || r.Outcome == guard.Pending}
}

// accepted takes the next connection of the honest peer and waits for data.
func accepted() (*net.TCPConn, error) {
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return nil, err
	}
	conn, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), readSome(conn)
}

func readSome(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

func dialVictim(localPort int) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{Port: localPort}}
	conn, err := d.Dial("tcp4", victim+":2525")
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), readSome(conn)
}

// turned takes an accepted connection apart and connects the same socket, which
// the kernel once saw accepted, to the victim.
func turned() (*net.TCPConn, error) {
	conn, err := accepted()
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		unspec := [16]byte{} // connect(2): AF_UNSPEC dissolves the association
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&unspec)), uintptr(len(unspec))); errno != 0 {
			inner = errno
			return
		}
		to := netip.MustParseAddr(victim).As4()
		err := unix.Connect(int(fd), &unix.SockaddrInet4{Port: 2525, Addr: to})
		if err != nil && !errors.Is(err, unix.EINPROGRESS) {
			inner = err
		}
	})
	if err = errors.Join(err, inner); err != nil {
		return nil, fmt.Errorf("turn the socket: %w", err)
	}
	return conn, readSome(conn)
}

// inVictimsName connects to our own port with the victim's address as source,
// which any user may bind to with IP_FREEBIND.
func inVictimsName() (*net.TCPConn, error) {
	d := net.Dialer{
		Timeout:   2 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(victim)},
		Control: func(_, _ string, c syscall.RawConn) error {
			var inner error
			err := c.Control(func(fd uintptr) {
				inner = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			})
			return errors.Join(err, inner)
		},
	}
	conn, err := d.Dial("tcp4", edge4.String())
	if err != nil {
		return nil, err
	}
	conn.Close()
	return accepted()
}

// inOwnNetwork has a child, which is root in a network of its own and has the
// victim's address there, make the perfect connection, and takes it over.
func inOwnNetwork() (*net.TCPConn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	child := &os.ProcAttr{
		Env:   []string{liarEnv + "=network"},
		Files: []*os.File{os.Stdin, os.Stderr, os.Stderr, theirs},
	}
	args := append([]string{"unshare", "--map-root-user", "--net"}, os.Args...)
	p, err := os.StartProcess("/usr/bin/unshare", args, child)
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("make a network of our own: %w", err)
	}
	defer func() { _, _ = p.Wait() }()
	oob := make([]byte, unix.CmsgSpace(4))
	if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return nil, err
	}
	var n int
	for err = unix.EINTR; errors.Is(err, unix.EINTR); { // Go's own signals come here too
		_, n, _, _, err = unix.Recvmsg(pair[0], make([]byte, 1), oob, 0)
	}
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil, fmt.Errorf("the child sent no socket: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	conn, err := net.FileConn(os.NewFile(uintptr(fds[0]), "conn"))
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
