package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/record/syslog"
)

// R-MC-07: what sshd and the kernel say is passed on; what we say ourselves is
// not, nor what comes faster than it may, and then it is said how much.
func TestMachineLog(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		ends[i] = c.(*net.UnixConn)
	}
	defer ends[0].Close()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	var late, asked atomic.Int64
	clock := func() time.Time { asked.Add(1); return now.Add(time.Duration(late.Load())) }
	got := make(chan *syslog.Message, 3*machineBurst)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		machineLog{ends[1], func(m *syslog.Message) { got <- m }, clock, slog.New(slog.DiscardHandler)}.run(ctx)
	}()
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(ends[0], format, args...); err != nil {
			t.Fatal(err)
		}
	}
	say("<86>Nov 27 11:59:44 sshd[1%d]: Accepted", os.Getpid())
	say("<30>Nov 27 11:59:44 weir[%d]: ours", os.Getpid())
	say("nonsense")
	for range machineBurst + 9 {
		say("<6>Nov 27 11:59:44 kernel: much")
	}
	say("<30>Nov 27 11:59:44 weir[%d]: the end of the second", os.Getpid())
	for range machineBurst {
		m := <-got
		if m.Origin == nil || m.Origin.Proc == strconv.Itoa(os.Getpid()) || !m.Time.Equal(now) {
			t.Fatalf("passed on: %+v", m)
		}
	}
	for asked.Load() < machineBurst+10 { // all of it was looked at
		runtime.Gosched()
	}
	late.Store(int64(time.Second))
	say("<6>Nov 27 11:59:45 kernel: later")
	var last []string
	for len(last) < 2 {
		last = append(last, (<-got).Text)
	}
	if !strings.HasPrefix(last[0], "10 messages of this machine's other programs were not passed on") || last[1] != "later" {
		t.Errorf("then: %q", last)
	}
	stop()
	<-ended
}
