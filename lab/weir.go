package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Weir is the appliance, running on a host of the lab as `weir run` does:
// every role a process with its own user.
type Weir struct {
	host   *Host
	binary string   // the same path here and on the host
	args   []string // of the command that starts it
	under  []string // what it is started through
	proc   *Process
}

// configAt is where the host has the configuration file.
const configAt = "/etc/mailweir/weir.toml"

// Weir writes the configuration, starts the appliance and waits until it
// greets. Without a configuration it is started as by a stranger, without a file,
// and writes its own.
func (h *Host) Weir(config string) *Weir {
	h.lab.t.Helper()
	w := h.newWeir("run", config)
	w.Start()
	return w
}

// WeirRole starts one role alone, as a service manager does that has the others
// elsewhere, and waits until it says that it is ready.
func (h *Host) WeirRole(role, config string) *Weir {
	h.lab.t.Helper()
	w := h.newWeir(role, config)
	w.start()
	h.lab.Eventually(30*time.Second, "weir "+role+" is ready", func() bool {
		w.mustLive()
		_, err := w.Cmd(h.lab.ctx, "bans")
		return err == nil
	})
	return w
}

func (h *Host) newWeir(command, config string) *Weir {
	h.lab.t.Helper()
	binary, err := h.lab.weirBinary()
	if err != nil {
		h.lab.t.Fatalf("build weir: %v", err)
	}
	w := &Weir{host: h, binary: binary, args: []string{command}}
	if config != "" {
		w.Configure(config)
		w.args = append(w.args, "-c", configAt)
	}
	return w
}

// Under has the next start go through a command, such as setpriv, that runs
// what its arguments end with.
func (w *Weir) Under(command ...string) { w.under = command }

// UseWeir makes the lab use another binary than one built from this tree.
func (l *Lab) UseWeir(binary string) { l.weir = binary }

// weirBinary puts the binary where every host sees it, once a lab.
func (l *Lab) weirBinary() (string, error) {
	to := filepath.Join(l.Dir(), "weir")
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	var from io.Reader
	if l.weir != "" {
		f, err := os.Open(l.weir)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	} else {
		f, err := builtWeir()
		if err != nil {
			return "", err
		}
		from = io.NewSectionReader(f, 0, 1<<40)
	}
	return to, copyProgram(to, from)
}

// copyProgram keeps other labs of this process from starting anything
// meanwhile: what they fork would have the file open for writing until it
// executes its own, and the kernel runs no such program ("text file busy").
func copyProgram(to string, from io.Reader) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}

// builtWeir builds the binary once a process. It is a file without a name, so
// that nothing stays however we end.
var builtWeir = sync.OnceValues(func() (*os.File, error) {
	dir, err := os.MkdirTemp("", "weir-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "weir")
	if err := BuildWeir(name); err != nil {
		return nil, err
	}
	return os.Open(name)
})

// BuildWeir builds the binary of this tree; flags are further ones of go build.
func BuildWeir(to string, flags ...string) error {
	args := append([]string{"build", "-buildvcs=false", "-o", to}, flags...)
	cmd := exec.Command("go", append(args, "mailweir/cmd/appliance")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // guard drops privileges of all its threads, which cgo hides
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	return nil
}

// Configure writes the configuration file; `weir reload` or the next start
// reads it.
func (w *Weir) Configure(config string) {
	w.host.lab.t.Helper()
	name := w.host.Path(configAt)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(config), 0o644)
	}
	if err != nil {
		w.host.lab.t.Fatalf("configure weir: %v", err)
	}
}

// Start starts the appliance, again after Stop or KillAll, and waits until it
// greets.
func (w *Weir) Start() {
	w.host.lab.t.Helper()
	w.StartWithin(30 * time.Second)
}

// StartWithin is Start with another patience.
func (w *Weir) StartWithin(d time.Duration) {
	w.host.lab.t.Helper()
	w.start()
	w.host.lab.Eventually(d, "weir greets", func() bool {
		w.mustLive()
		return w.host.greets()
	})
}

func (w *Weir) start() {
	w.host.lab.t.Helper()
	var err error
	args := append(append(slices.Clone(w.under), w.binary), w.args...)
	w.proc, err = w.host.Start("weir", w.host.Command(args[0], args[1:]...))
	if err != nil {
		w.host.lab.t.Fatalf("start weir: %v", err)
	}
}

// mustLive ends the test when the process has ended.
func (w *Weir) mustLive() {
	w.host.lab.t.Helper()
	select {
	case <-w.proc.Done():
		w.host.lab.t.Fatalf("weir ended at once, exit code %d: %s", w.proc.ExitCode(), w.proc.Log())
	default:
	}
}

// Stop ends the appliance as an operator would, and returns its exit code.
func (w *Weir) Stop() int {
	w.proc.Stop(30 * time.Second)
	return w.proc.ExitCode()
}

// Process is `weir run`.
func (w *Weir) Process() *Process { return w.proc }

// Log is what the appliance wrote on standard error.
func (w *Weir) Log() string { return w.proc.Log() }

// Binary is the appliance's program, under the same path here and on the host.
func (w *Weir) Binary() string { return w.binary }

// Cmd runs one of weir's commands on the host and returns its standard output;
// an error tells its standard error.
func (w *Weir) Cmd(ctx context.Context, args ...string) (string, error) {
	return w.CmdInput(ctx, "", args...)
}

// CmdInput is Cmd with a standard input.
func (w *Weir) CmdInput(ctx context.Context, input string, args ...string) (string, error) {
	cmd := w.host.Command(w.binary, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	if err := w.host.run(ctx, cmd); err != nil {
		return out.String(), fmt.Errorf("weir %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return out.String(), nil
}

// Objects runs a command with --json, which prints an object a line, and reads
// each into a T.
func Objects[T any](ctx context.Context, w *Weir, args ...string) ([]T, error) {
	out, err := w.Cmd(ctx, append(args, "--json")...)
	if err != nil {
		return nil, err
	}
	var all []T
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var v T
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("read the answer of weir %s: %w: %s", strings.Join(args, " "), err, out)
		}
		all = append(all, v)
	}
	return all, nil
}

// PID is the process of a role ("guard", "mail") as this process sees it, 0
// while there is none.
func (w *Weir) PID(role string) int {
	for _, pid := range w.proc.cgroup.pids() {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if len(args) > 1 && args[1] == role {
			return pid
		}
	}
	return 0
}

// Kill ends a role at once and returns when it is gone; `weir run` starts it
// again.
func (w *Weir) Kill(role string) {
	w.host.lab.t.Helper()
	pid := w.PID(role)
	if pid == 0 {
		w.host.lab.t.Fatalf("kill %s: it does not run", role)
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		w.host.lab.t.Fatalf("kill %s: %v", role, err)
	}
	w.host.lab.Eventually(10*time.Second, role+" is gone", func() bool {
		return !slices.Contains(w.proc.cgroup.pids(), pid)
	})
}

// KillAll ends every process of the appliance at once.
func (w *Weir) KillAll() {
	w.host.lab.t.Helper()
	if err := w.proc.Kill(); err != nil {
		w.host.lab.t.Fatalf("kill weir: %v", err)
	}
}
