package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A group is the control group of a host. It counts the processor time of
// everything that runs there, the dead included, and limits nothing.
type group struct {
	path string
	dir  *os.File
}

// groupBase is where the machine has version 2 of control groups: at the usual
// place, or beside version 1.
func groupBase() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 2 && w[2] == "cgroup2" {
			return filepath.Join(w[1], "mailweir-lab"), nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

// account makes the host's control group. Its name is that of the lab's
// directory, so that the sweeper finds it.
func (h *Host) account() error {
	base, err := groupBase()
	if err != nil {
		return err
	}
	h.cgroup, err = newGroup(filepath.Join(base, filepath.Base(h.lab.dir.path), h.Name))
	return err
}

func newGroup(path string) (*group, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &group{path, dir}, nil
}

// CPU is the processor time that everything on the host has used since it was
// made, in user and kernel mode. What the kernel does for it in interrupts is
// not in it.
func (h *Host) CPU() (time.Duration, error) { return h.cgroup.cpu() }

// PIDs are the processes of the host, as this process sees them.
func (h *Host) PIDs() []int {
	pids := h.cgroup.pids()
	groups, _ := filepath.Glob(filepath.Join(h.cgroup.path, "*", "cgroup.procs"))
	for _, g := range groups {
		pids = append(pids, (&group{path: filepath.Dir(g)}).pids()...)
	}
	return pids
}

func (g *group) cpu() (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(g.path, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("read %s/cpu.stat: no usage_usec in it", g.path)
}

// kill ends every process of the group at once, whatever became of their
// parents.
func (g *group) kill() error {
	return os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
}

// pids are the processes of the group, as this process sees them.
func (g *group) pids() []int {
	b, _ := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	var pids []int
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// remove removes the group and those below it, once its processes have been
// killed.
func (g *group) remove() {
	if g == nil {
		return
	}
	g.dir.Close()
	removeGroup(g.path)
	os.Remove(filepath.Dir(g.path)) // of the lab: succeeds with its last host
}

// removeGroup removes a group of the dead; the kernel needs a moment to forget
// the last of them.
func removeGroup(path string) {
	below, _ := os.ReadDir(path)
	for _, e := range below {
		if e.IsDir() {
			removeGroup(filepath.Join(path, e.Name()))
		}
	}
	for range 100 {
		if err := os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sweepGroup removes the groups of a dead lab. Others without a directory are
// let be: they may belong to a lab that lives in another root file system.
func sweepGroup(lab string) {
	if base, err := groupBase(); err == nil {
		removeGroup(filepath.Join(base, lab))
	}
}
