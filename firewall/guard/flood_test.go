package guard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// as runs f on a thread of another user, which ends with it.
func as(uid int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		id := uintptr(uid)
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, id, id, id}, {unix.SYS_SETRESUID, id, id, id}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- errno
				return
			}
		}
		done <- f()
	}()
	return <-done
}

// descriptorsOpen is how many this process has.
func descriptorsOpen(t *testing.T) int {
	t.Helper()
	return len(must(os.ReadDir("/proc/self/fd"))(t))
}

// A mail role that was taken over floods guard with descriptors, as many to a
// message as the kernel takes, in good messages and in nonsense, and reads no
// answer: guard keeps none of them, and an honest asker is heard.
func TestFloodOfDescriptors(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	before := descriptorsOpen(t)
	many := make([]int, 253) // SCM_MAX_FD
	for i := range many {
		many[i] = fd
	}
	good := request{reason: firewall.Harvest, ref: 1}.append(nil)
	sent := 0
	var flood []net.Conn
	for i := range 2 * maxReporters { // who finds no place is turned away
		c := must(net.Dial("unixpacket", OffencePath(g.cfg.RunDir)))(t).(*net.UnixConn)
		flood = append(flood, c)
		check(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		for range 50 {
			message := good
			if i%2 == 0 {
				message = []byte("nonsense")
			}
			if _, _, err := c.WriteMsgUnix(message, unix.UnixRights(many...), nil); err != nil {
				break
			}
			sent++
		}
	}
	if sent < maxReporters {
		t.Errorf("%d messages were sent", sent)
	}
	for _, c := range flood {
		c.Close()
	}
	eventually(t, "an honest asker is heard", func() bool { return isHeard(t, g.raw()) })
	eventually(t, "guard has let go of them", func() bool { return descriptorsOpen(t) <= before+20 })
}

// Others are kept from both sockets by their modes; and where these are lost, by
// who they are. However many come, the mail role is heard.
func TestOthersAtTheSockets(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	for dir := g.cfg.RunDir; dir != "/tmp" && dir != "/"; dir = dir[:strings.LastIndex(dir, "/")] {
		check(t, os.Chmod(dir, 0o755))
	}
	const other = 60001
	dial := func(network, path string) error {
		c, err := net.Dial(network, path)
		if err == nil {
			c.Close()
		}
		return err
	}
	for network, path := range map[string]string{"unixpacket": OffencePath(g.cfg.RunDir), "unix": OperatorPath(g.cfg.RunDir)} {
		if err := as(other, func() error { return dial(network, path) }); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("user %d connects to %s: %v", other, path, err)
		}
		check(t, os.Chmod(path, 0o666))
		check(t, as(other, func() error { return dial(network, path) }))
	}
	err := as(other, func() error { // the client of net/http dials elsewhere
		c, err := net.Dial("unix", OperatorPath(g.cfg.RunDir))
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Fprint(c, "POST /switch HTTP/1.1\r\nHost: guard\r\nContent-Length: 12\r\n\r\n{\"on\":false}")
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		return fmt.Errorf("%s", b[:n])
	})
	if !strings.Contains(err.Error(), "may not use this socket") || g.s.off.Load() {
		t.Errorf("user %d switches the firewall off: %v", other, err)
	}
	var crowd []net.Conn // all stay until the last has come
	check(t, as(other, func() error {
		for range 4 * maxReporters {
			c, err := net.Dial("unixpacket", OffencePath(g.cfg.RunDir))
			if err != nil {
				return err
			}
			crowd = append(crowd, c)
			c.Write(appendQuestion(nil, netip.MustParseAddr("203.0.113.7"))) // nonsense would end it
		}
		return nil
	}))
	eventually(t, "the mail role is heard among strangers", func() bool { return isHeard(t, g.raw()) })
	for _, c := range crowd {
		c.Close()
	}
}

// Those who ask for all bans and read none of them hold up neither bans nor
// guard's end.
func TestBansThatNobodyReads(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "11.0.%d.%d 1h\n", i>>8, i&255)
	}
	ctx := context.Background()
	_, err := g.op.BanText(ctx, strings.NewReader(text.String()), BanRequest{})
	check(t, err)
	for range 16 {
		c := must(net.Dial("unix", OperatorPath(g.cfg.RunDir)))(t)
		defer c.Close()
		fmt.Fprint(c, "GET /bans HTTP/1.1\r\nHost: guard\r\n\r\n")
		must(c.Read(make([]byte, 1)))(t) // its answer is on the way
	}
	done := make(chan error, 1)
	go func() {
		_, err := g.op.Ban(ctx, BanRequest{Prefix: netip.MustParsePrefix("203.0.113.9/32"), For: Duration(time.Hour)})
		if err == nil {
			_, err = g.op.Unban(ctx, netip.MustParsePrefix("11.0.0.0/20"))
		}
		done <- err
	}()
	select {
	case err := <-done:
		check(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("a ban waits for those who read nothing")
	}
	if !isHeard(t, g.raw()) {
		t.Error("the mail role is not heard")
	}
	g.ends(t)
}

// ends says that guard ends, whatever others do to it.
func (g *rig) ends(t *testing.T) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); g.end() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("guard does not end")
	}
}
