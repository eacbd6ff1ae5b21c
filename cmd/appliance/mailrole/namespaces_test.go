package mailrole

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const confinedEnv = "MAILWEIR_CONFINED"

// The mail role, however it was taken over, gets no namespace of users, in which
// it could make a file that guard cannot close; everything else goes on.
func TestNoNamespaces(t *testing.T) {
	for _, confine := range []string{"no", "yes"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestConfined$", "-test.v")
		cmd.Env = append(os.Environ(), confinedEnv+"="+confine)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range map[string][]string{
			"no":  {"unshare: invalid argument", "clone: <nil>"}, // threads have to have the same users
			"yes": {"unshare: operation not permitted", "clone: operation not permitted", "setns: operation not permitted", "mount: operation not permitted", "seccomp: 2", "a process: <nil>"},
		}[confine] {
			if !strings.Contains(string(out), want+"\n") {
				t.Errorf("confined %s: no %q in\n%s", confine, want, out)
			}
		}
	}
}

// TestConfined is the process that TestNoNamespaces starts, since nobody gets rid
// of what he has given up; by itself it is nothing.
func TestConfined(t *testing.T) {
	confine, asked := os.LookupEnv(confinedEnv)
	if !asked {
		return
	}
	var before, done sync.WaitGroup
	before.Add(1)
	done.Go(func() { // a thread that was there before
		runtime.LockOSThread()
		before.Wait()
		fmt.Printf("unshare: %v\n", unix.Unshare(unix.CLONE_NEWUSER))
	})
	if confine == "yes" {
		runtime.LockOSThread()
		if err := errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), withoutNamespaces()); err != nil {
			t.Fatal(err)
		}
	}
	before.Done()
	done.Wait()
	run := func(flags uintptr) error {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		err := cmd.Run()
		var path *os.PathError
		if errors.As(err, &path) {
			return path.Err
		}
		return err
	}
	fmt.Printf("clone: %v\n", run(unix.CLONE_NEWUSER))
	fmt.Printf("a process: %v\n", run(0))
	fmt.Printf("setns: %v\n", unix.Setns(-1, 0))
	fmt.Printf("mount: %v\n", unix.Mount("none", "/nowhere", "tmpfs", 0, ""))
	status, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(status)) {
		if mode, is := strings.CutPrefix(line, "Seccomp:\t"); is {
			fmt.Printf("seccomp: %s", mode)
		}
	}
}
