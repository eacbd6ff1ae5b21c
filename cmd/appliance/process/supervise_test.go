package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The supervisor starts this very program, so the test binary plays the roles:
// in an init function, since it must come before the flags are read.
func init() {
	if os.Args[0] != "weir" || os.Getenv("WEIR_TEST_ROLE") == "" {
		return
	}
	playRole(os.Args[1])
	os.Exit(0)
}

// stuckAlive is how long the role "stuck" may say nothing.
const stuckAlive = 300 * time.Millisecond

func playRole(name string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	switch name {
	case "good":
		daemon.SdNotify(false, daemon.SdNotifyReady)
		<-term
		fmt.Fprintln(os.Stderr, "good: drained")
	case "broken":
		fmt.Fprintln(os.Stderr, "broken: cannot")
		os.Exit(1)
	case "hung":
		<-term
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		daemon.SdNotify(false, daemon.SdNotifyReady)
		select {}
	case "stuck":
		daemon.SdNotify(false, daemon.SdNotifyReady)
		tick := time.NewTicker(10 * time.Millisecond)
		for end := time.Now().Add(2 * stuckAlive); time.Now().Before(end); <-tick.C { // longer than it may be silent
			daemon.SdNotify(false, daemon.SdNotifyWatchdog+"\n"+"STATUS="+os.Getenv("WATCHDOG_USEC"))
		}
		fmt.Fprintln(os.Stderr, "stuck: with", os.Getenv("WATCHDOG_USEC"))
		select {}
	case "listening":
		p, err := PassedSockets()
		ls := p.Listeners
		if err != nil || len(ls) != 1 {
			fmt.Fprintln(os.Stderr, "listening:", ls, err)
			os.Exit(1)
		}
		daemon.SdNotify(false, daemon.SdNotifyReady)
		c, err := ls[0].Accept()
		if err == nil {
			fmt.Fprintf(c, "220 uid %d\r\n", os.Getuid())
			c.Close()
		}
		<-term
	}
}

// watched is a supervisor under test and what it wrote.
type watched struct {
	*supervisor
	logPath string
	ready   chan struct{}
	done    chan error
	stop    context.CancelFunc
}

func watch(t *testing.T, r role) *watched {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	threads, free := context.WithCancel(context.Background())
	r.env = append(r.env, "WEIR_TEST_ROLE=1")
	if r.ready == 0 {
		r.ready = time.Minute
	}
	if r.grace == 0 {
		r.grace = time.Minute
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &watched{
		supervisor: &supervisor{role: r, runDir: dir, log: log, start: starter(threads), now: time.Now, after: time.After},
		logPath:    log.Name(), ready: make(chan struct{}), done: make(chan error, 1), stop: stop,
	}
	go func() { w.done <- w.run(ctx, func() { close(w.ready) }) }()
	t.Cleanup(func() {
		stop()
		<-w.done
		free()
		log.Close()
	})
	return w
}

func (w *watched) awaitReady(t *testing.T) {
	t.Helper()
	select {
	case <-w.ready:
	case err := <-w.done:
		w.done <- err
		t.Fatalf("ended before it was ready: %v\n%s", err, w.said())
	}
}

func (w *watched) said() string {
	b, err := os.ReadFile(w.logPath)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// until waits for a condition of a real process; a minute is only for a
// machine that is very busy.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never saw: %s", what)
		}
	}
}

func TestRoleStopsInOrder(t *testing.T) {
	w := watch(t, role{name: "good"})
	w.awaitReady(t)
	if st := w.State(); st.Pid == 0 || !st.Ready || st.Restarts != 0 {
		t.Errorf("state %+v, want ready", st)
	}
	w.stop()
	err := <-w.done
	w.done <- nil
	if err != nil || !strings.Contains(w.said(), "good: drained") {
		t.Errorf("ended with %v, saying %q; want nil after it drained", err, w.said())
	}
}

func TestRoleIsStartedAgain(t *testing.T) {
	w := watch(t, role{name: "good"})
	w.awaitReady(t)
	before := w.State().Pid
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "a second life", func() bool { st := w.State(); return st.Ready && st.Pid != before })
	if st := w.State(); st.Restarts != 1 || !strings.Contains(st.Last, "killed") {
		t.Errorf("state %+v, want one restart after it was killed", st)
	}
}

func TestRoleThatNeverGetsReadyIsAnError(t *testing.T) {
	for _, name := range []string{"broken", "hung"} {
		w := watch(t, role{name: name, ready: 200 * time.Millisecond})
		err := <-w.done
		w.done <- nil
		if !errors.Is(err, errNeverReady) {
			t.Errorf("%s: got %v, want %v", name, err, errNeverReady)
		}
	}
}

func TestDeafRoleIsKilled(t *testing.T) {
	w := watch(t, role{name: "deaf", grace: 50 * time.Millisecond})
	w.awaitReady(t)
	w.stop()
	err := <-w.done
	w.done <- nil
	if err != nil || !strings.Contains(w.said(), "killing it") {
		t.Errorf("ended with %v, saying %q", err, w.said())
	}
}

// A role that says no more that it is well is made to show where it hangs, and
// started again.
func TestStuckRoleIsStartedAgain(t *testing.T) {
	w := watch(t, role{name: "stuck", alive: stuckAlive})
	w.awaitReady(t)
	for end := time.Now().Add(time.Minute); !strings.Contains(w.said(), "stuck ended (said nothing for 300ms"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody sees that it hangs: %q", w.said())
		}
	}
	if said := w.said(); !strings.Contains(said, "stuck: with 300000") || !strings.Contains(said, "SIGABRT") || !strings.Contains(said, "playRole") {
		t.Errorf("it said %q, want that it lived on for as long as it spoke, and where it was in the end", said)
	}
}

// A role of another user, started from a program in a folder that it may not
// enter, gets its listening socket; a connection made while it is away waits.
func TestRoleOfAnotherUserGetsItsSockets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: starts a process of another user")
	}
	l, err := Listen(t.Context(), loopback())
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(l)
	files, err := listenerFiles(l)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const nobody = 65534
	w := watch(t, role{name: "listening", files: files, user: &syscall.Credential{Uid: nobody, Gid: nobody}})
	w.awaitReady(t)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	if got := string(buf[:n]); err != nil || got != "220 uid 65534\r\n" {
		t.Errorf("read %q, %v", got, err)
	}
}
