package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// greet accepts connections on h and tells each caller its address.
func greet(t *testing.T, h *lab.Host, at netip.AddrPort) {
	t.Helper()
	ln, err := h.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			c.Close()
		}
	}()
}

// call connects and returns what the greeter saw.
func call(t *testing.T, h *lab.Host, from netip.Addr, to netip.AddrPort) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := h.DialFrom(ctx, from, to)
	if err != nil {
		t.Fatalf("%s from %v to %v: %v", h.Name, from, to, err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestHostsReachEachOther(t *testing.T) {
	l := lab.New(t)
	edge := l.Host("edge", "192.0.2.25", "2001:db8:25::25")
	client := l.Host("client", "198.51.100.7", "2001:db8:7::7", "198.18.0.0/16", "2001:db8:1000::/36")
	only := l.Host("only-a-prefix", "203.0.113.0/24", "2001:db8:2::/48")
	greet(t, edge, netip.MustParseAddrPort("[::]:25"))

	for _, test := range []struct {
		host     *lab.Host
		from, to string
		seen     string
	}{
		{client, "", "192.0.2.25", "198.51.100.7"},
		{client, "", "2001:db8:25::25", "2001:db8:7::7"},
		{client, "198.18.200.3", "192.0.2.25", "198.18.200.3"},
		{client, "198.18.0.0", "192.0.2.25", "198.18.0.0"},
		{client, "2001:db8:1abc::77", "2001:db8:25::25", "2001:db8:1abc::77"},
		{only, "", "192.0.2.25", "203.0.113.1"},
		{only, "", "2001:db8:25::25", "2001:db8:2::1"},
	} {
		var from netip.Addr
		if test.from != "" {
			from = netip.MustParseAddr(test.from)
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(test.to), 25)
		if got := call(t, test.host, from, to); got != test.seen {
			t.Errorf("%s from %q to %s: seen as %s, want %s", test.host.Name, test.from, test.to, got, test.seen)
		}
	}
}

func TestThousandsOfAddressesConnect(t *testing.T) {
	l := lab.New(t)
	edge := l.Host("edge", "192.0.2.25")
	client := l.Host("client", "198.18.0.0/16")
	greet(t, edge, netip.MustParseAddrPort("0.0.0.0:25"))
	addr := netip.MustParseAddr("198.18.3.0")
	for range 2000 {
		if got := call(t, client, addr, netip.MustParseAddrPort("192.0.2.25:25")); got != addr.String() {
			t.Fatalf("seen as %s, want %s", got, addr)
		}
		addr = addr.Next()
	}
}

func TestHostHasItsOwnFiles(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a", "192.0.2.1"), l.Host("b", "192.0.2.2")
	script := `set -e
mkdir -p /run/mailweir /var/lib/mailweir /etc/mailweir /sys/fs/bpf/mailweir
echo a > /etc/mailweir/mark
id -u weir-mail; hostname; ls /sys/class/net; ls /proc | grep -c '^[0-9]'`
	out, err := a.Run(t.Context(), "/bin/sh", "-c", script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "900\na\neth0\nlo\n"; !strings.HasPrefix(out, want) {
		t.Errorf("script printed %q, want it to begin with %q", out, want)
	}
	if _, err := os.Stat(a.Path("/etc/mailweir/mark")); err != nil {
		t.Errorf("a file of the host cannot be read from outside: %v", err)
	}
	if out, err := b.Run(t.Context(), "/bin/ls", "/etc/mailweir", "/sys/fs/bpf/mailweir"); err == nil {
		t.Errorf("host b sees files of host a: %s", out)
	}
	if out, err := a.Run(t.Context(), "/bin/touch", "/usr/mark"); err == nil {
		t.Errorf("a host can write to the machine's /usr: %s", out)
	}
}

func TestCPUIsCountedForTheDead(t *testing.T) {
	h := lab.New(t).Host("a", "192.0.2.1")
	before, err := h.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := h.Run(t.Context(), "/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	after, err := h.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if after-before < 5*time.Millisecond {
		t.Errorf("a hundred thousand loops of a shell cost %v", after-before)
	}
}

// traces lists what a lab could leave behind on the machine.
func traces(t *testing.T, pid int) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		fmt.Sprintf("/var/tmp/mailweir-lab/%d-*", pid),
		fmt.Sprintf("/sys/fs/cgroup/mailweir-lab/%d-*", pid),
		fmt.Sprintf("/sys/fs/cgroup/*/mailweir-lab/%d-*", pid),
	} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, fmt.Sprintf("/mailweir-lab/%d-", pid)) {
			found = append(found, line)
		}
	}
	return found
}

// namespaced lists the processes that live in one of the given network
// namespaces.
func namespaced(ids map[string]bool) []string {
	var found []string
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		if id, err := os.Readlink(p + "/ns/net"); err == nil && ids[id] {
			found = append(found, p)
		}
	}
	return found
}

func TestNothingStays(t *testing.T) {
	ids := map[string]bool{}
	t.Run("lab", func(t *testing.T) {
		l := lab.New(t)
		h := l.Host("a", "192.0.2.1")
		id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", h.PID()))
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
		// A daemon that nobody waits for any more.
		if out, err := h.Run(t.Context(), "/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if len(namespaced(ids)) != 2 {
			t.Fatalf("the keeper and the daemon should run: %v", namespaced(ids))
		}
	})
	if left := namespaced(ids); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if left := traces(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestKilledLabIsSwept kills a process that has a lab. The kernel must end its
// hosts at once, and the next lab must remove its files.
func TestKilledLabIsSwept(t *testing.T) {
	if os.Getenv("LAB_VICTIM") != "" {
		l := lab.New(t)
		h := l.Host("a", "192.0.2.1")
		id, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", h.PID()))
		fmt.Println("victim", id)
		select {}
	}
	lab.New(t) // skips where there can be none

	victim := exec.Command(os.Args[0], "-test.run=^TestKilledLabIsSwept$")
	victim.Env = append(os.Environ(), "LAB_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for s := bufio.NewScanner(out); s.Scan(); {
		if id, ok := strings.CutPrefix(s.Text(), "victim "); ok {
			ids[id] = true
			break
		}
	}
	if len(namespaced(ids)) == 0 {
		t.Fatal("the victim has no host")
	}
	pid := victim.Process.Pid
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()

	l := lab.New(t)
	l.Eventually(10*time.Second, "the kernel ends the dead lab's hosts", func() bool { return len(namespaced(ids)) == 0 })
	if left := traces(t, pid); len(left) > 0 {
		t.Errorf("the next lab left of the dead one: %q", left)
	}
}
