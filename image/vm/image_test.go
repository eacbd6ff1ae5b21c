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

// TestFirstBoot boots a fresh disk on a machine with 512 MiB and no network:
// it greets on port 25 all the same (R-MC-05).
func TestFirstBoot(t *testing.T) {
	m := boot(t, Options{Disk: disk(t)})
	ctx := within(t, 9*time.Minute)
	if _, err := m.Shell(ctx, "true"); err != nil {
		t.Fatal(err)
	}
	t.Logf("a shell after %.1f s", m.Age().Seconds())
	out, err := m.Shell(ctx, `until systemctl is-active -q weir-mail.service; do sleep 0.2; done; exec 3<>/dev/tcp/127.0.0.1/25 2>/dev/null; true`)
	if err != nil {
		t.Fatal(err, out)
	}
	t.Logf("mail is up after %.1f s", m.Age().Seconds())
	for _, command := range []string{
		"weir status", "systemctl --failed --no-legend; free -m; systemd-analyze; systemctl list-units --state=running --no-legend --no-pager",
		"ss -lntup", "systemd-analyze security --no-pager | cat", "find / -xdev -perm /6000 -type f", "mount | head -30; df -h; cat /etc/machine-id; ls -la /var/lib/mailweir /etc/mailweir/",
		"journalctl -b --no-pager -u weir-system -u weir-guard -u weir-mail -u weir-mail.socket -o cat | tail -40",
		"journalctl -b --no-pager -p warning -o short-monotonic | tail -40", "systemd-analyze critical-chain weir-mail.service --no-pager; systemd-analyze blame --no-pager | head -20",
	} {
		out, err := m.Shell(within(t, time.Minute), command)
		t.Logf("$ %s\n%s%v", command, out, err)
	}
}
