//go:build image

package vm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// sh runs a command inside. What is small takes minutes where the emulator gets
// little of the processors.
func sh(t *testing.T, m *Machine, command string) string {
	t.Helper()
	out, err := m.Shell(within(t, 5*time.Minute), command)
	if err != nil {
		t.Errorf("%v", err)
	}
	return out
}

// TestFirstBoot boots a fresh disk on a machine with 512 MiB, no network, no
// seed and a clock of long ago: it greets on port 25 all the same (R-MC-05), is
// as closed as it is said to be, has room for many bans, goes on when its disk is
// full, is set up over its serial line by a script, and can be made as new, by a
// seed with a mistake.
func TestFirstBoot(t *testing.T) {
	disk, stick := disk(t), stick(t)
	m := boot(t, Options{Disk: disk, Extra: []string{"-rtc", "base=2001-01-01T00:00:00", "-drive", "if=virtio,format=raw,file=/w/" + stick}})
	up(t, m)
	t.Logf("mail is up after %.1f s", m.Age().Seconds())
	greets(t, m, "220 ")
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
	t.Run("clock", func(t *testing.T) {
		if out := sh(t, m, "test $(date +%s) -ge $(stat -c %Y /usr/lib/clock-epoch) && echo later"); out != "later\n" {
			t.Errorf("the clock is before the image was made: %s", out)
		}
	})
	t.Logf("at rest\n%s", sh(t, m, "free -m; systemd-analyze; ps -eo user,rss,args --sort=-rss | grep -v ' \\['"))
	t.Run("driver", func(t *testing.T) {
		if out := sh(t, m, "weir status || true"); !strings.Contains(out, "eth0 native") {
			t.Errorf("by the first configuration XDP is not in the driver: %s", out)
		}
	})
	t.Run("restarts", func(t *testing.T) { restarts(t, m) })
	t.Run("many bans", func(t *testing.T) { manyBans(t, m) })
	t.Run("full disk", func(t *testing.T) { fullDisk(t, m) })
	t.Run("serial line", func(t *testing.T) { setUp(t, m) })
	t.Run("many lifted", func(t *testing.T) { manyLifted(t, m) })
	t.Run("reset", func(t *testing.T) { reset(t, m) })
}

// stick is an empty volume of a few MiB.
func stick(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("stick-%d.raw", os.Getpid())
	at := filepath.Join(tree(t), ".cache/image", name)
	if err := os.WriteFile(at, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(at) })
	return name
}

// memory is what tells how much of it is used, and whether it was ever short.
const memory = `free -m; echo "cgroup $(cat /sys/fs/cgroup/mailweir.slice/memory.current) bytes"; tr '\n' ' ' </sys/fs/cgroup/mailweir.slice/memory.events; echo
	ps -o rss,args -C weir-guard,weir-mail; weir status | grep -e bans, -e ' bans' -e geo`

// restarts has each role die while somebody connects: the port stays open, the
// connection waits for the greeting, and who is banned is banned all the while.
func restarts(t *testing.T, m *Machine) {
	sh(t, m, "weir ban 11.0.0.1 --why test")
	for _, role := range []string{"weir-mail", "weir-guard"} {
		out, err := m.Shell(within(t, 10*time.Minute), "systemctl kill -s KILL "+role+".service; "+session)
		if err != nil || !strings.HasPrefix(out, "220 ") {
			t.Errorf("whoever connects while %s is started again hears %q, %v", role, out, err)
		}
		if out := sh(t, m, "nft get element inet mailweir ban4 '{ 11.0.0.1 }'"); !strings.Contains(out, "11.0.0.1") {
			t.Errorf("while %s is started again the kernel does not hold the ban: %s", role, out)
		}
		if _, err := m.Shell(within(t, 10*time.Minute), "until systemctl is-active -q "+role+".service; do sleep 1; done"); err != nil {
			t.Error(err)
		}
	}
	sh(t, m, "weir unban 11.0.0.1")
}

// manyLifted takes the hundred thousand bans out again.
func manyLifted(t *testing.T, m *Machine) {
	out, err := m.Shell(within(t, 5*time.Minute), `s=$(date +%s); weir unban 11.0.0.0/8 >/dev/null && echo "$(($(date +%s) - s)) s"`)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("lifted in %s", out)
	if _, err := m.Shell(within(t, 5*time.Minute), "until weir status | grep -q 'nft  *0 bans;'; do sleep 1; done"); err != nil {
		t.Errorf("nftables still holds them: %v\n%s", err, sh(t, m, "weir status || true"))
	}
}

// manyBans puts a hundred thousand bans beside the countries of the world, in
// 512 MiB, and leaves the machine with room to work in.
func manyBans(t *testing.T, m *Machine) {
	t.Logf("before\n%s", sh(t, m, memory))
	out, err := m.Shell(within(t, 10*time.Minute),
		`seq 0 99999 | awk '{printf "11.%d.%d.%d\n", $1/65536, $1/256%256, $1%256}' >/run/root/many; s=$(date +%s)
		weir ban - --no-trial --for 30d --why many </run/root/many >/run/root/said || { tail -n 3 /run/root/said; false; } && echo "$(($(date +%s) - s)) s"`)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("taken in %s", out)
	out, err = m.Shell(within(t, 5*time.Minute), `s=$(date +%s); weir status | grep -A 3 '^firewall'; echo "$(($(date +%s) - s)) s"`)
	if err != nil {
		t.Errorf("weir status waits for nftables: %v", err)
	}
	t.Logf("weir status meanwhile\n%s", out)
	if _, err := m.Shell(within(t, 5*time.Minute), "until weir status | grep -q 'nft  *100000 bans'; do sleep 1; done"); err != nil {
		t.Errorf("nftables does not hold them: %v", err)
	}
	after := sh(t, m, memory)
	t.Logf("with 100,000 bans\n%s", after)
	if !strings.Contains(after, "100000 bans") || !strings.Contains(after, "oom_kill 0 ") {
		t.Errorf("not all bans stand, or memory was short")
	}
	var available int
	if _, err := fmt.Sscan(sh(t, m, "awk '/MemAvailable/ {print int($2/1024)}' /proc/meminfo"), &available); err != nil || available < 64 {
		t.Errorf("%d MiB are left of 512 (%v)", available, err)
	}
	greets(t, m, "220 ")
}

// up waits until mail is.
func up(t *testing.T, m *Machine) {
	t.Helper()
	if _, err := m.Shell(within(t, 40*time.Minute), "until systemctl is-active -q weir-mail.service; do sleep 1; done"); err != nil {
		t.Fatal(err)
	}
}

// session is a message to port 25, in bash: say waits for the last line of a
// reply, and prints all of it. It ends with the connection, or with patience.
const session = `bash -c 'exec 3<>/dev/tcp/127.0.0.1/25
say() { [ -z "$1" ] || printf "%s\r\n" "$1" >&3; while read -t 300 -r l <&3 || exit 0; do echo "$l"; case $l in ???" "*) break;; esac; done; }
say; say "EHLO me.example"; say "MAIL FROM:<me@me.example>"; say "RCPT TO:<anna@example.com>"; say DATA; printf "hello\r\n" >&3; say .; say QUIT'`

func greets(t *testing.T, m *Machine, want string) {
	t.Helper()
	if out := sh(t, m, session); !strings.HasPrefix(out, want) {
		t.Errorf("port 25 says %q, want %q", out, want)
	}
}

// fullDisk has the mail role fill the disk: no message is lost by being taken,
// what root keeps can still be written, and it goes on by itself after.
func fullDisk(t *testing.T, m *Machine) {
	if out := sh(t, m, session); !strings.Contains(out, "\n250 2.0.0") && !strings.Contains(out, "250 2.6.0") {
		t.Fatalf("a message is not taken before: %s", out)
	}
	sh(t, m, `as="setpriv --reuid=weir-mail --regid=weir-mail --clear-groups"; f=/var/lib/mailweir/mail/fill
		$as fallocate -l $(df -B1 --output=avail /var | tail -n 1) $f; $as dd if=/dev/zero of=$f.2 bs=64k 2>/dev/null; $as dd if=/dev/zero of=$f.3 bs=512 2>/dev/null; df /var`)
	out := sh(t, m, session)
	if !strings.HasPrefix(out, "220 ") || !regexp.MustCompile(`(?m)^4[25]\d `).MatchString(out) {
		t.Errorf("with a full disk: %s", out)
	}
	sh(t, m, "dd if=/dev/zero of=/var/lib/mailweir/config/x bs=1M count=4 conv=fsync && rm /var/lib/mailweir/config/x")
	t.Logf("weir status with a full disk\n%s", sh(t, m, "weir status || true"))
	sh(t, m, "rm /var/lib/mailweir/mail/fill*")
	if _, err := m.Shell(within(t, 5*time.Minute), "until "+session+" | grep -q '^250 2.[06].0'; do sleep 5; done"); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
}

// setUp types at the console what a script would.
func setUp(t *testing.T, m *Machine) {
	at := func(pattern string) {
		t.Helper()
		if _, err := m.Console.Expect(within(t, 10*time.Minute), pattern); err != nil {
			t.Fatal(err)
		}
	}
	const file = "hostname = \"mx1.example.com\"\n[backend.office]\nurl = \"smtp://192.0.2.10:25\"\n[domain.\"example.com\"]\nbackends = [\"office\"]\n" +
		"[geo]\ndrop = [\"AQ\"]\n[system.interfaces]\neth0 = [\"192.0.2.25/24\"]\n"
	at("weir setup> ")
	fmt.Fprint(m.Console, "2\n")
	at("Ctrl-D on a line of its own")
	fmt.Fprint(m.Console, file+"\x04")
	at("weir setup> ")
	up(t, m)
	greets(t, m, "220 mx1.example.com ")
	if out := sh(t, m, "ip -color=never -br address show dev eth0"); !strings.Contains(out, "192.0.2.25/24") {
		t.Errorf("the address is not in force: %s", out)
	}
	t.Logf("with the countries of the world and the bans\n%s", sh(t, m, memory))
	if out := sh(t, m, "weir status || true"); !strings.Contains(out, "eth0 native") {
		t.Errorf("XDP is not in the driver: %s\n%s", out, sh(t, m, "dmesg | grep -i -e virtio -e xdp | tail"))
	}
}

// seedWithMistakes is one of which a domain and an address are understood.
const seedWithMistakes = `hostname = "mx3.example.com"
greeting = "hello"

[backend.first]
url = "maildir:/var/lib/mailweir/mail/maildir"

[domain."example.com"]
backends = ["first"]
recipients = "any"

[domain."example.org"]
backends = ["frist"]

[system.interfaces]
eth0 = ["192.0.2.26/24"]
`

// reset makes the machine as new, with a seed that has mistakes: mail is there
// for what is understood of it, other mail is put off, and the console tells.
func reset(t *testing.T, m *Machine) {
	const identity = "cat /etc/machine-id /var/lib/mailweir/system/ssh_host_ed25519_key.pub"
	before := sh(t, m, identity)
	if out, err := m.Shell(within(t, time.Minute), "weir system reset mx2.example.com"); err == nil {
		t.Fatalf("a machine of another name is reset: %s", out)
	}
	sh(t, m, "mkfs.vfat -n WEIR_SEED /dev/vdb >/dev/null; mkdir /run/root/s; mount /dev/vdb /run/root/s; cat >/run/root/s/weir.toml <<'END'\n"+seedWithMistakes+"END\numount /run/root/s")
	if _, err := fmt.Fprint(m.shell, "weir system reset mx1.example.com\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Console.Expect(within(t, 5*time.Minute), "Restarting system"); err != nil {
		t.Fatal(err)
	}
	m.Restarted()
	if _, err := m.Console.Expect(within(t, 40*time.Minute), "configuration comes from the volume WEIR_SEED"); err != nil {
		t.Fatal(err)
	}
	said, err := m.Console.Expect(within(t, 40*time.Minute), "weir setup> ")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"weir.toml:2:1: unknown key greeting", `there is no backend "frist"`, "ALARM"} {
		if !strings.Contains(said, want) {
			t.Errorf("the console does not say %q", want)
		}
	}
	up(t, m)
	greets(t, m, "220 mx3.example.com ")
	if out := sh(t, m, session); !regexp.MustCompile(`(?m)^250 2\.[06]\.0`).MatchString(out) {
		t.Errorf("mail for the domain that is understood is not taken: %s", out)
	}
	if out := sh(t, m, strings.Replace(session, "anna@example.com", "anna@example.org", 1)); !strings.Contains(out, "\n451 4.4.3 ") || strings.Contains(out, "5.7.1") {
		t.Errorf("mail for the domain that is not understood is not put off: %s", out)
	}
	if out := sh(t, m, "ip -color=never -br address show dev eth0"); !strings.Contains(out, "192.0.2.26/24") {
		t.Errorf("the address of the seed is not in force: %s", out)
	}
	after := sh(t, m, identity)
	for line := range strings.Lines(before) {
		if strings.Contains(after, line) {
			t.Errorf("after the reset there is still %s", line)
		}
	}
}

// dhcp is the port on which an answer of DHCP is waited for.
func dhcp(line string) bool {
	return strings.HasSuffix(strings.TrimSpace(line), ":68") || strings.HasSuffix(strings.TrimSpace(line), ":546")
}
