package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrivileges reads what the kernel says of the running roles: mail has its
// own user and no capability, guard has the three that it works with, and no
// thread of either can ever gain more. All of guard goes before others who want
// the processor.
func TestPrivileges(t *testing.T) {
	b := newKeyBench(t)
	const none = "0000000000000000"
	guard := fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_PERFMON|1<<unix.CAP_BPF)
	mail := strconv.Itoa(b.edge.UserID("weir-mail"))
	for role, want := range map[string]map[string]string{
		"guard": {"Uid": "0 0 0 0", "CapInh": none, "CapPrm": guard, "CapEff": guard, "CapBnd": guard, "CapAmb": none, "NoNewPrivs": "1"},
		"mail": {"Uid": strings.Join([]string{mail, mail, mail, mail}, " "), "Gid": strings.Join([]string{mail, mail, mail, mail}, " "), "Groups": "",
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"},
	} {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", b.weir.PID(role)))
		if err != nil || len(tasks) == 0 {
			t.Fatalf("%s has no threads: %v", role, err)
		}
		for _, task := range tasks {
			got := readStatus(t, task)
			for key, value := range want {
				if got[key] != value {
					t.Errorf("%s: %s of %s is %q, want %q", role, key, task, got[key], value)
				}
			}
			thread, _ := strconv.Atoi(filepath.Base(filepath.Dir(task)))
			// The system call says 20 - niceness: 30 for guard's -10.
			if n, err := unix.Getpriority(unix.PRIO_PROCESS, thread); err != nil || (role == "guard") != (n == 30) {
				t.Errorf("%s: thread %d has priority %d (%v)", role, thread, n, err)
			}
		}
	}
	b.mailCannotReach(t)
}

// readStatus reads a file like /proc/PID/status.
func readStatus(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		values[key] = strings.Join(strings.Fields(value), " ")
	}
	return values
}

// mailCannotReach tries as the mail role's user what only guard, or root, may.
func (b *keyBench) mailCannotReach(t *testing.T) {
	t.Helper()
	id := uint32(b.edge.UserID("weir-mail"))
	for _, args := range [][]string{
		{"/bin/sh", "-c", "ls /var/lib/mailweir/guard"},
		{b.weir.Binary(), "ban", "203.0.113.9", "--why", "taken over"},
		{b.weir.Binary(), "allow", "203.0.113.9", "--why", "taken over"},
		{b.weir.Binary(), "firewall", "off"},
		{"/usr/sbin/nft", "flush", "ruleset"},
	} {
		cmd := b.edge.Command(args[0], args[1:]...)
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id}
		if out, err := b.edge.RunCommand(t.Context(), cmd); err == nil {
			t.Errorf("as the mail role's user %q works: %s", args, out)
		}
	}
	if !b.nft() {
		t.Error("our table is gone from the kernel")
	}
}
