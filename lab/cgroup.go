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
	path := filepath.Join(base, filepath.Base(h.lab.dir.path), h.Name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	h.cgroup = &group{path, dir}
	return nil
}

// CPU is the processor time that everything on the host has used since it was
// made, in user and kernel mode. What the kernel does for it in interrupts is
// not in it.
func (h *Host) CPU() (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(h.cgroup.path, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("read %s/cpu.stat: no usage_usec in it", h.cgroup.path)
}

func (g *group) remove() {
	if g == nil {
		return
	}
	g.dir.Close()
	removeGroup(g.path)
	os.Remove(filepath.Dir(g.path)) // of the lab: succeeds with its last host
}

// removeGroup removes a group whose processes have been killed; the kernel
// needs a moment to forget the last of them.
func removeGroup(path string) {
	for range 100 {
		if err := os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sweepGroup removes the groups of a dead lab.
func sweepGroup(lab string) {
	base, err := groupBase()
	if err != nil {
		return
	}
	hosts, _ := filepath.Glob(filepath.Join(base, lab, "*"))
	for _, path := range hosts {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			removeGroup(path)
		}
	}
	os.Remove(filepath.Join(base, lab))
}
