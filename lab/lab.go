// Package lab makes a small internet on one machine: hosts in network
// namespaces joined by veth pairs, with real name servers and real mail servers
// on them, and the appliance at the edge. Tests, benchmarks and the demo drive
// it; nothing in it is a mock.
//
// # Shape
//
// A Lab has one router, the internet. Every Host hangs on it by a link of its
// own and owns addresses and whole prefixes; the router knows which way each of
// them lies. A client with 65,000 addresses costs no more than one with a
// single one, because a prefix is made local by one route.
//
// # A host
//
// A Host is a network, mount, process, IPC and host name namespace with a root
// directory of its own: the machine's /usr is seen read-only, while /etc, /var,
// /run, /tmp, /dev, /proc, /sys and the BPF file system belong to the host
// alone. So the appliance under test finds its usual paths, pins its maps where
// it always does, and cannot meet the one that runs on this machine. No
// namespace has a way out to a real network.
//
// # Nothing stays
//
// All namespaces of a host live in one process, its keeper, which is the
// first of the host's process namespace and waits on a pipe held by us. When we
// go away, however suddenly, the pipe closes, the keeper ends, and the kernel
// kills every process of the host and frees its mounts, links, maps and
// addresses. What is left then is files: a directory a lab, locked by its owner
// and removed by the next lab when the owner is dead.
//
// Making one needs root; New skips a test that has not got it.
package lab

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Test is what a lab needs of a test: *testing.T and *testing.B have it, and a
// program that is no test brings its own.
type Test interface {
	Helper()
	Name() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A Lab is one small internet.
type Lab struct {
	t        Test
	ctx      context.Context // done when the lab is closed
	dir      runDir
	internet *Host
	weir     string // a binary to use instead of this tree's

	mu       sync.Mutex
	hosts    []*Host
	resolver netip.Addr // in the resolv.conf of every host
}

// New makes a lab that is removed when the test ends. It skips a test that does
// not run as root.
func New(t Test) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("network namespaces need root, and this is uid %d: run it as root (make test does)", os.Geteuid())
	}
	sweep(runBase)
	dir, err := newRunDir(runBase)
	if err != nil {
		t.Fatalf("make a directory for the lab: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Lab{t: t, ctx: ctx, dir: dir}
	t.Cleanup(func() {
		cancel()
		l.close()
	})
	l.internet = l.newHost("internet")
	if err := l.internet.forward(); err != nil {
		t.Fatalf("make the internet forward: %v", err)
	}
	return l
}

// Dir is a directory that goes away with the lab. Every host sees it under the
// same path.
func (l *Lab) Dir() string { return filepath.Join(l.dir.path, "share") }

// close takes everything away, the newest host first.
func (l *Lab) close() {
	if l.t.Failed() {
		l.showLogs()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.hosts) - 1; i >= 0; i-- {
		l.hosts[i].close()
	}
	if err := l.dir.remove(); err != nil {
		l.t.Logf("remove the lab's directory: %v", err)
	}
}

func (l *Lab) logs() []string {
	names, _ := filepath.Glob(filepath.Join(l.dir.path, "*", "log", "*.log"))
	return names
}

// showLogs prints the end of every server's log, for the reader of a failure.
func (l *Lab) showLogs() {
	for _, name := range l.logs() {
		b, err := os.ReadFile(name)
		if err != nil || len(b) == 0 {
			continue
		}
		const most = 20_000
		if len(b) > most {
			b = b[len(b)-most:]
		}
		rel, _ := filepath.Rel(l.dir.path, name)
		l.t.Logf("--- %s\n%s", rel, b)
	}
}

// Eventually waits until ok is true and ends the test when that has not
// happened within d: for what a real process does in its own time.
func (l *Lab) Eventually(d time.Duration, what string, ok func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(d)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(pause)
	}
}
