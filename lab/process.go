package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Process is a program that runs on a host until it ends or the host goes.
type Process struct {
	cmd    *exec.Cmd
	log    string
	cgroup *group // of the process and all that it starts
	done   chan struct{}
}

// Command prepares a program as the host would see it: its path, its files and
// its network are the host's. Run it in Do, or let Start do that.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: name,
		Args: append([]string{name}, args...),
		Dir:  "/",
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "LANG=C.UTF-8", "TZ=UTC",
		},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:      true,
			UseCgroupFD: true,
			CgroupFD:    int(h.cgroup.dir.Fd()),
		},
	}
}

// Start starts a command in the background; what it prints goes to a log of
// that name.
func (h *Host) Start(name string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, log: filepath.Join(h.logs, name+".log"), done: make(chan struct{})}
	var err error
	// A group of its own for each start: Linux (6.15 at least) kills whatever
	// is started straight into a group that was killed before.
	group := fmt.Sprintf("%s.%d", name, h.started.Add(1))
	if p.cgroup, err = newGroup(filepath.Join(h.cgroup.path, group)); err != nil {
		return nil, err
	}
	defer p.cgroup.dir.Close()
	cmd.SysProcAttr.CgroupFD = int(p.cgroup.dir.Fd())
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := h.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", cmd.Path, h.Name, err)
	}
	h.wait.Go(func() {
		// Reaped at once: the host's process namespace ends only when nobody
		// in it is left, not even a zombie.
		_ = cmd.Wait()
		close(p.done)
	})
	return p, nil
}

// Run runs a program to its end and returns what it printed on both outputs.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	return h.RunCommand(ctx, h.Command(name, args...))
}

// RunCommand runs a prepared command to its end or that of ctx.
func (h *Host) RunCommand(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.run(ctx, cmd); err != nil {
		return out.String(), fmt.Errorf("run %s on %s: %w", strings.Join(cmd.Args, " "), h.Name, err)
	}
	return out.String(), nil
}

// run starts a command on the host and waits for it.
func (h *Host) run(ctx context.Context, cmd *exec.Cmd) error {
	cmd.WaitDelay = time.Second // for children that keep its output open
	if err := h.Do(cmd.Start); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return nil
}

// PID is the process id as this process sees it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the process's exit code, -1 while it runs or when a signal ended
// it.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Signal sends a signal; a process that has ended takes none, and that is no
// error.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop asks the process to end, makes it after a while, and waits.
func (p *Process) Stop(patience time.Duration) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
}

// Kill ends the process and all that it has started, at once and unasked, and
// waits until the last is gone with the locks and ports it held.
func (p *Process) Kill() error {
	if err := p.cgroup.kill(); err != nil {
		return err
	}
	<-p.done
	for len(p.cgroup.pids()) > 0 {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// CPU is the processor time that the process and all that it has started have
// used.
func (p *Process) CPU() (time.Duration, error) { return p.cgroup.cpu() }

// Log is what the process has printed so far.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}
