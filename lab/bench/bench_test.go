// Package bench measures the appliance beside its peers: what it does, and what
// a mail server or a log watcher of Debian does in the same place, in one lab,
// one after the other and again.
//
//	make bench PKG=./lab/bench
//
// # How it is measured
//
// The appliance runs as `weir run` does, every role a process with its own
// user. A peer runs the configuration that lies in peers/, whole. Each is on a
// host of its own with a control group, and what is counted is the processor
// time of that group, in user and kernel mode: all of the product, and nothing
// of the client, the backend or the name server, which are hosts of their own
// and whose time is printed beside it. What the kernel does in interrupts,
// such as handing packets on, is in nobody's figure.
//
// Rounds are interleaved, ours, theirs, ours, theirs, and the least, the middle
// and the most of them are printed. The ratio is that of the least, which other
// work on the machine disturbs last.
//
// What one side does and the other does not is said under each figure, and the
// look-ups of names are counted at the name server.
package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(loadEnv); spec != "" {
		os.Exit(runLoad(spec))
	}
	code := m.Run()
	results.print()
	os.Exit(code)
}

// rounds is how often each side has its turn.
const rounds = 5

// results are the lines of the table at the end.
var results table

type table struct {
	mu   sync.Mutex
	rows [][4]string // what, ours, peer, ratio or aim
}

func (t *table) add(what, ours, peer, note string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, [4]string{what, ours, peer, note})
}

func (t *table) print() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return
	}
	fmt.Printf("\n%s\n\n| what | ours | peer | |\n|---|---|---|---|\n", machine())
	for _, r := range t.rows {
		fmt.Printf("| %s |\n", strings.Join(r[:], " | "))
	}
}

// machine says what the figures were taken on.
func machine() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	load, _, _ := strings.Cut(readFile("/proc/loadavg"), " ")
	return fmt.Sprintf("%d x %s, Linux %s, %s, load now %s",
		runtime.NumCPU(), processor(), unix.ByteSliceToString(uts.Release[:]), distribution(), load)
}

func processor() string {
	for line := range strings.Lines(readFile("/proc/cpuinfo")) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return runtime.GOARCH
}

func distribution() string {
	for line := range strings.Lines(readFile("/etc/os-release")) {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(name, "\"\n")
		}
	}
	return runtime.GOOS
}

func readFile(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}
