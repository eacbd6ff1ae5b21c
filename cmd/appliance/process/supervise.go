package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A role of weir run is a process of its own, started from this very program.
type role struct {
	name  string              // the command: "guard", "mail"
	args  []string            // after the name
	user  *syscall.Credential // nil: ours
	files []*os.File          // listening sockets, passed by LISTEN_FDS
	env   []string

	ready time.Duration // how long it may take from start to READY=1
	grace time.Duration // how long it may take from SIGTERM to its end
	alive time.Duration // how often it says that it is well, once it is ready; 0: it does not
}

// RoleState is what weir status shows of a role.
type RoleState struct {
	Name     string    `json:"name"`
	Pid      int       `json:"pid,omitempty"` // 0: not running
	Ready    bool      `json:"ready"`
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts"`
	Last     string    `json:"last,omitempty"` // how it last ended
}

// supervisor keeps one role running: it starts it, waits until it says that it
// is ready (sd_notify), starts it again when it dies, ever more slowly while it
// keeps dying, and ends it with SIGTERM when its context ends.
type supervisor struct {
	role   role
	runDir string
	log    *os.File // the role writes here itself: no pipe breaks when weir run dies
	start  starterFunc
	now    func() time.Time
	after  func(time.Duration) <-chan time.Time

	mu    sync.Mutex
	state RoleState
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	settled    = time.Minute // a role that lived so long starts over with firstPause
)

// errNeverReady says that a role ended, or hung, before it was ready for the
// first time: its configuration or its machine is wrong, and only a person can
// put that right.
var errNeverReady = errors.New("did not become ready")

// State returns how the role stands.
func (s *supervisor) State() RoleState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *supervisor) update(f func(*RoleState)) {
	s.mu.Lock()
	f(&s.state)
	s.mu.Unlock()
}

// run keeps the role alive until ctx ends, and returns nil then, after the role
// has ended. onReady is called once, when it is ready for the first time. An
// error means that it never was.
func (s *supervisor) run(ctx context.Context, onReady func()) error {
	s.update(func(st *RoleState) { st.Name = s.role.name })
	pause := firstPause
	for first := true; ; first = false {
		began := s.now()
		wasReady, err := s.once(ctx, onReady)
		if wasReady {
			onReady = func() {}
		}
		if ctx.Err() != nil {
			return nil
		}
		if first && !wasReady {
			return fmt.Errorf("weir %s %w: %w", s.role.name, errNeverReady, err)
		}
		if s.now().Sub(began) > settled {
			pause = firstPause
		}
		fmt.Fprintf(s.log, "weir run: %s ended (%v), starting it again in %v\n", s.role.name, err, pause)
		s.update(func(st *RoleState) { st.Restarts++ })
		select {
		case <-ctx.Done():
			return nil
		case <-s.after(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// once lives one life of the role: from start to end.
func (s *supervisor) once(ctx context.Context, onReady func()) (wasReady bool, err error) {
	notify, addr, err := listenNotify(s.runDir, s.role)
	if err != nil {
		return false, err
	}
	defer notify.Close()
	cmd := s.command(addr)
	if err := s.start(cmd); err != nil {
		return false, fmt.Errorf("start weir %s: %w", s.role.name, err)
	}
	s.update(func(st *RoleState) { st.Pid, st.Since, st.Ready = cmd.Process.Pid, s.now(), false })
	ended, ready, beat := make(chan error, 1), make(chan struct{}), make(chan struct{})
	over := make(chan struct{})
	defer close(over)
	go func() { ended <- cmd.Wait() }()
	go hear(notify, ready, beat, over)

	late := s.after(s.role.ready)
	var silent <-chan time.Time
	for err == nil {
		select {
		case <-ready:
			wasReady, ready, late = true, nil, nil
			s.update(func(st *RoleState) { st.Ready = true })
			onReady()
			silent = s.watchdog()
		case <-beat:
			if ready == nil {
				silent = s.watchdog()
			}
		case <-silent:
			cmd.Process.Signal(syscall.SIGABRT) // says where each goroutine is
			silent = nil
			err = fmt.Errorf("said nothing for %v, killed: %w", s.role.alive, exitError(s.mustEnd(cmd, ended)))
		case <-late:
			cmd.Process.Kill()
			late = nil
			err = fmt.Errorf("not ready after %v, killed: %w", s.role.ready, exitError(<-ended))
		case e := <-ended:
			err = exitError(e)
		case <-ctx.Done():
			err = exitError(s.end(cmd, ended))
		}
	}
	s.update(func(st *RoleState) { st.Pid, st.Ready, st.Last = 0, false, err.Error() })
	return wasReady, err
}

func (s *supervisor) watchdog() <-chan time.Time {
	if s.role.alive == 0 {
		return nil
	}
	return s.after(s.role.alive)
}

// mustEnd gives a process that was told to end a moment for it.
func (s *supervisor) mustEnd(cmd *exec.Cmd, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-s.after(time.Second):
		cmd.Process.Kill()
		return <-ended
	}
}

// end asks the process to stop and, when its grace is over, makes it.
func (s *supervisor) end(cmd *exec.Cmd, ended <-chan error) error {
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-s.after(s.role.grace):
		fmt.Fprintf(s.log, "weir run: %s is still there %v after SIGTERM, killing it\n", s.role.name, s.role.grace)
		cmd.Process.Kill()
		return <-ended
	}
}

// command builds the process. It is started from /proc/self/exe: that needs no
// right to walk the path, so a role of another user starts from a checkout
// under /root, and a program that was replaced on disk stays the one that runs.
func (s *supervisor) command(notify string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"weir", s.role.name}, s.role.args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.ExtraFiles = s.role.files
	cmd.Env = append(os.Environ(), s.role.env...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify)
	if s.role.alive > 0 {
		cmd.Env = append(cmd.Env, "WATCHDOG_USEC="+strconv.FormatInt(s.role.alive.Microseconds(), 10), "WATCHDOG_PID=") // whose it is, it knows
	}
	if n := len(s.role.files); n > 0 {
		// LISTEN_PID names the process; it is not known before the fork. Our
		// roles take 0 as "you": see PassedSockets.
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_PID=0")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: s.role.user,
		Pdeathsig:  syscall.SIGTERM, // weir run was killed: drain and stop too
		Setpgid:    true,            // Ctrl-C reaches weir run alone, which ends the roles in order
	}
	return cmd
}

// starterFunc starts a process.
type starterFunc func(*exec.Cmd) error

// starter starts processes from one thread that lives as long as ctx: the
// death signal of a child is tied to the thread that made it, and Go ends idle
// threads.
func starter(ctx context.Context) starterFunc {
	type request struct {
		cmd  *exec.Cmd
		done chan error
	}
	requests := make(chan request)
	go func() {
		runtime.LockOSThread()
		for {
			select {
			case r := <-requests:
				r.done <- r.cmd.Start()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(cmd *exec.Cmd) error {
		r := request{cmd, make(chan error, 1)}
		select {
		case requests <- r:
			return <-r.done
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listenNotify makes the socket on which a role reports (sd_notify(3)).
func listenNotify(dir string, r role) (*net.UnixConn, string, error) {
	path := filepath.Join(dir, "notify-"+r.name+".sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("remove the last notify socket: %w", err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, "", fmt.Errorf("make the notify socket: %w", err)
	}
	err = os.Chmod(path, 0o600)
	if err == nil && r.user != nil {
		err = os.Chown(path, int(r.user.Uid), int(r.user.Gid))
	}
	if err != nil {
		c.Close()
		return nil, "", fmt.Errorf("hand the notify socket to %s: %w", r.name, err)
	}
	return c, path, nil
}

// hear closes ready at the first READY=1, tells of each WATCHDOG=1, and ends
// with c or over.
func hear(c *net.UnixConn, ready, beat chan<- struct{}, over <-chan struct{}) {
	buf := make([]byte, 4096)
	for said := false; ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			switch {
			case line == daemon.SdNotifyReady && !said:
				said = true
				close(ready)
			case line == daemon.SdNotifyWatchdog:
				select {
				case beat <- struct{}{}:
				case <-over:
					return
				}
			}
		}
	}
}

// exitError is how a process ended, in words; never nil.
func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
