package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// raw is a connection to the offence socket, and no client of ours.
func (r *rig) raw() *net.UnixConn {
	r.t.Helper()
	c := must(net.Dial("unixpacket", OffencePath(r.cfg.RunDir)))(r.t).(*net.UnixConn)
	r.t.Cleanup(func() { c.Close() })
	return c
}

// isHeard says whether guard answers a message with a socket of no interest on c.
func isHeard(t *testing.T, c *net.UnixConn) bool {
	t.Helper()
	fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	check(t, c.SetDeadline(time.Now().Add(3*time.Second)))
	if _, _, err := c.WriteMsgUnix(request{reason: firewall.Harvest, ref: 1}.append(nil), unix.UnixRights(fd), nil); err != nil {
		return false
	}
	b := make([]byte, 2*answerSize)
	n, err := c.Read(b)
	if err != nil {
		return false
	}
	r, err := parseResult(b[:n])
	return err == nil && r.Outcome == NotTCP
}

// Those who ask and never read the answer do not keep the places of those who
// do.
func TestAnswersThatNobodyReads(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	for range maxReporters {
		c := g.raw()
		check(t, c.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		for range 100_000 { // until guard cannot write, so that it does not read
			if _, err := c.Write(appendQuestion(nil, netip.MustParseAddr("203.0.113.7"))); err != nil {
				break
			}
		}
	}
	eventually(t, "an honest asker is heard", func() bool { return isHeard(t, g.raw()) })
}

// A socket that was made to linger, with bytes that its peer never takes, holds
// up whoever closes it last. That is guard, if the mail role was taken over.
func TestSocketsThatLinger(t *testing.T) {
	w := newWorld(t)
	g := newRig(t, one(newFake()), nil)
	l := w.listen(edge4)
	_, first := w.visit(l, "203.0.113.1")
	_, ours := w.visit(l, "203.0.113.2")
	check(t, ours.SetLinger(3600))
	check(t, ours.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	for chunk := make([]byte, 1<<20); ; { // until no more goes
		if _, err := ours.Write(chunk); err != nil {
			break
		}
	}
	good := request{reason: firewall.Harvest, ref: 1}.append(nil)
	c := g.raw()
	g.s.order.Lock() // guard is held up over the first, so that the second is only its own
	for _, conn := range []*net.TCPConn{first, ours} {
		f := must(conn.File())(t)
		_, _, err := c.WriteMsgUnix(good, unix.UnixRights(int(f.Fd())), nil)
		check(t, err)
		check(t, f.Close())
	}
	check(t, ours.Close())
	g.s.order.Unlock()
	for range 2 {
		check(t, c.SetReadDeadline(time.Now().Add(3*time.Second)))
		b := make([]byte, 2*answerSize)
		if r, err := parseResult(b[:must(c.Read(b))(t)]); err != nil || r.Outcome != Banned {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	if !isHeard(t, c) {
		t.Error("guard waits for a socket that lingers")
	}
	eventually(t, "what came of it is told", func() bool { return len(g.s.logs.history.since(0).Events) == 2 })
}

// slowFile is an open file whose close never returns, of a file system that
// answers nothing.
func slowFile(t *testing.T) int {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no FUSE, and so no file whose close never returns")
	}
	check(t, err)
	at := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(at, nil, 0o600))
	check(t, unix.Mount("slow", at, "fuse.slow", 0, fmt.Sprintf("fd=%d,rootmode=100600,user_id=0,group_id=0", dev)))
	t.Cleanup(func() {
		unix.Unmount(at, unix.MNT_DETACH)
		unix.Close(dev) // who waits is let go
	})
	go func() {
		const opInit, opOpen = 26, 14
		for b := make([]byte, 1<<17); ; {
			n, err := unix.Read(dev, b)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n < 40 {
				return
			}
			opcode := binary.NativeEndian.Uint32(b[4:])
			answer := make([]byte, 16) // its header: length, error, number of the question
			switch opcode {
			case opInit:
				answer = append(answer, make([]byte, 64)...)
				binary.NativeEndian.PutUint32(answer[16:], 7)
				binary.NativeEndian.PutUint32(answer[20:], 31)
				binary.NativeEndian.PutUint32(answer[36:], 4096) // max_write
			case opOpen:
				answer = append(answer, make([]byte, 16)...)
			default:
				continue
			}
			binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
			copy(answer[8:16], b[8:16])
			if unix.Write(dev, answer); opcode == opOpen {
				return // what comes now stays unanswered
			}
		}
	}()
	return must(unix.Open(at, unix.O_RDONLY|unix.O_CLOEXEC, 0))(t) // os.Open would ask for more
}

// A file whose close never returns holds up neither the next question nor
// guard's end.
func TestFilesThatCannotBeClosed(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	f := slowFile(t)
	good := request{reason: firewall.Harvest, ref: 1}.append(nil)
	c := g.raw()
	for range 3 {
		_, _, err := c.WriteMsgUnix(good, unix.UnixRights(f), nil)
		check(t, err)
	}
	b := make([]byte, 2*answerSize)
	for range 3 {
		check(t, c.SetReadDeadline(time.Now().Add(3*time.Second)))
		if _, err := c.Read(b); err != nil {
			t.Fatalf("guard hangs on a file that it was handed: %v", err)
		}
	}
	_, _, err := g.raw().WriteMsgUnix([]byte("nonsense"), unix.UnixRights(f), nil)
	check(t, err)
	eventually(t, "an honest asker is heard", func() bool { return isHeard(t, g.raw()) })
	g.ends(t)
}
