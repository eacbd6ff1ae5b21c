package guard

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
