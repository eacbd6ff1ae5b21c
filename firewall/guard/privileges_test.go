package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// After DropPrivileges every thread has CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF
// and nothing else, also not to gain: a program of its own shows it, since a
// process cannot take this back.
func TestDropPrivileges(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "privileges"), "./testdata/privileges")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	foreign := filepath.Join(dir, "foreign")
	check(t, os.WriteFile(foreign, nil, 0o600))
	check(t, os.Chown(foreign, 60001, 60001))
	out, err := exec.Command(filepath.Join(dir, "privileges"), foreign, filepath.Join(dir, "own")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const three = "000000c000001000" // bits 12, 38 and 39
	want := []string{
		"CapAmb: 0000000000000000", "CapBnd: " + three, "CapEff: " + three, "CapInh: 0000000000000000",
		"CapPrm: " + three, "NoNewPrivs: 1", "Uid: 0 0 0 0", "foreign: true", "own: true",
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	threads := strings.Count(string(out), "Uid:")
	slices.Sort(lines)
	if got := slices.Compact(lines); !slices.Equal(got, want) || threads < 5 {
		t.Errorf("%d threads:\n%s\nwant\n%s", threads, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// R-MC-05: a guard that was killed leaves its sockets behind, and is started again
// with nothing but what its service leaves it.
func TestSocketOfAKilledGuard(t *testing.T) {
	needRoot(t)
	const mail = 4242
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Dir(OffencePath(dir)), 0o755))
	dead := must(offenceSocket(dir, mail).Listen())(t)
	dead.SetUnlinkOnClose(false)
	living := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		data[0].Effective, data[0].Permitted = 1<<unix.CAP_CHOWN, 1<<unix.CAP_CHOWN
		if err := unix.Capset(&header, &data[0]); err != nil {
			living <- err
			return
		}
		_, err := offenceSocket(dir, mail).Listen()
		living <- err
		<-living // the other is dead now
		l, err := offenceSocket(dir, mail).Listen()
		if err == nil {
			l.Close()
		}
		living <- err
	}()
	if err := <-living; err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another process (pid %d)", os.Getpid())) {
		t.Errorf("beside a living guard another starts: %v", err)
	}
	check(t, dead.Close())
	living <- nil
	if err := <-living; err != nil {
		t.Errorf("after a guard was killed none starts: %v", err)
	}
}
