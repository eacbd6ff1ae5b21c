//go:build image

package vm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var firmware = flag.String("firmware", "bios", "bios or uefi")

// tree is the source tree.
func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// disk is a fresh one of 8 GiB, over what make image built last.
func disk(t *testing.T) string {
	t.Helper()
	root := tree(t)
	images, _ := filepath.Glob(filepath.Join(root, "dist", "mailweir_*.qcow2"))
	if len(images) == 0 {
		t.Fatal("there is no image in dist: run make image")
	}
	name := fmt.Sprintf("test-%d.qcow2", os.Getpid())
	at := filepath.Join(root, ".cache/image", name)
	inside(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "/src/dist/"+filepath.Base(newest(images)), "/w/"+name, "8G")
	t.Cleanup(func() { os.Remove(at); os.Remove(at + ".vars") })
	inside(t, "cp", "/usr/share/OVMF/OVMF_VARS_4M.fd", "/w/"+name+".vars")
	return name
}

func newest(files []string) string {
	best := files[0]
	for _, f := range files {
		a, errA := os.Stat(f)
		b, errB := os.Stat(best)
		if errA == nil && errB == nil && a.ModTime().After(b.ModTime()) {
			best = f
		}
	}
	return best
}

// inside runs a command in the root of tools.
func inside(t *testing.T, command ...string) string {
	t.Helper()
	root := tree(t)
	args := append([]string{"-euc", `. "$0/image/lib"; tree=$0; enter "$0/.cache/image/tools" "$0" "$@"`, root}, command...)
	cmd := exec.Command("sh", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// boot switches a machine on; it is off when the test ends, and what its
// console said is shown when the test failed.
func boot(t *testing.T, o Options) *Machine {
	t.Helper()
	o.Tree, o.Firmware = tree(t), Firmware(*firmware)
	watch, err := os.Create(filepath.Join(o.Tree, ".cache/image/console.log")) // tail -f it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { watch.Close() })
	o.Watch = watch
	m, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Cut()
		if t.Failed() {
			text := m.Console.Text()
			t.Logf("the console:\n%s", text[max(0, len(text)-6000):])
		}
	})
	return m
}

// within is a context that ends in time.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// sh runs a command inside.
func sh(t *testing.T, m *Machine, command string) string {
	t.Helper()
	out, err := m.Shell(within(t, time.Minute), command)
	if err != nil {
		t.Errorf("%v", err)
	}
	return out
}

// TestFirstBoot boots a fresh disk on a machine with 512 MiB, no network and no
// seed: it greets on port 25 all the same (R-MC-05), and is as closed as it is
// said to be.
func TestFirstBoot(t *testing.T) {
	m := boot(t, Options{Disk: disk(t)})
	if _, err := m.Shell(within(t, 20*time.Minute), "until systemctl is-active -q weir-mail.service; do sleep 1; done"); err != nil {
		t.Fatal(err)
	}
	t.Logf("mail is up after %.1f s", m.Age().Seconds())
	if out := sh(t, m, "bash -c 'exec 3<>/dev/tcp/127.0.0.1/25; head -n 1 <&3'"); !strings.HasPrefix(out, "220 ") {
		t.Errorf("port 25 says %q", out)
	}
	t.Run("ports", func(t *testing.T) {
		open := sh(t, m, `ss -Hlntu | awk '{print $1, $5}' | grep -v '127\.0\.0\.1\|\[::1\]' | sort`)
		for line := range strings.Lines(open) {
			if !strings.HasSuffix(strings.TrimSpace(line), ":22") && !strings.HasSuffix(strings.TrimSpace(line), ":25") && !dhcp(line) {
				t.Errorf("open besides SSH and mail: %s", line)
			}
		}
		t.Log(open)
	})
	t.Run("set-user-id", func(t *testing.T) {
		if out := sh(t, m, "find / -xdev -perm /6000 -type f | sort"); out != "/usr/bin/sudo\n/usr/sbin/unix_chkpwd\n" {
			t.Errorf("files that change who runs them: %s", out)
		}
	})
	t.Run("sandbox", func(t *testing.T) {
		for unit, most := range map[string]float64{"weir-mail": 1.5, "weir-guard": 3, "unbound": 1.5} {
			var score float64
			out := sh(t, m, "systemd-analyze security --no-pager "+unit+".service | tail -n 1 | grep -o '[0-9][0-9.]*' | tail -n 1")
			if _, err := fmt.Sscan(out, &score); err != nil || score > most {
				t.Errorf("%s scores %q, and at most %v is wanted", unit, out, most)
			}
			t.Logf("%s %v", unit, score)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		if out, err := m.Shell(within(t, time.Minute), "touch /etc/x || touch /usr/x"); err == nil {
			t.Errorf("the root can be written to: %s", out)
		}
	})
	t.Logf("at rest\n%s", sh(t, m, "free -m; systemd-analyze; ps -eo user,rss,args --sort=-rss | grep -v ' \\['"))
}

// dhcp is the port on which an answer of DHCP is waited for.
func dhcp(line string) bool {
	return strings.HasSuffix(strings.TrimSpace(line), ":68") || strings.HasSuffix(strings.TrimSpace(line), ":546")
}
