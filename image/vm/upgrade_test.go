//go:build image

package vm

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// otherBundle is an update to another version, which image/test builds.
func otherBundle(t *testing.T) string {
	t.Helper()
	all, _ := filepath.Glob(filepath.Join(tree(t), "dist", "*.next.bundle"))
	if len(all) != 1 {
		t.Fatal("there is no update in dist: image/test builds one")
	}
	return "/src/dist/" + filepath.Base(all[0])
}

// upgradable is a machine that runs, and has an update at hand and a ban.
func upgradable(t *testing.T) (s *site, version string) {
	t.Helper()
	bundle := otherBundle(t)
	s = newSite(t)
	s.extra = []string{"-drive", "if=virtio,format=raw,readonly=on,file=" + bundle}
	s.start()
	version = s.running()
	s.attack()
	s.dropped()
	s.settled()
	return s, version
}

// TestUpgrade takes an update and keeps it, and goes back by hand. What the newer
// version has in its configuration file does not keep the older one from mail.
// Bans hold all the while.
func TestUpgrade(t *testing.T) {
	s, old := upgradable(t)
	s.upgrade("--no-restart /dev/vdb")
	sh(t, s.machine, "sync; systemctl reboot --no-block")
	s.returned()
	now := s.running()
	if now == old {
		t.Fatalf("after the update %s runs still", now)
	}
	s.dropped()
	s.settled()
	s.deliver("on the new version")

	sh(t, s.machine, `cd /etc/mailweir && sed -i '1i next_switch = "on"' weir.toml && printf '\n[next]\nkey = 1\n' >>weir.toml && sync`)
	s.upgrade("--back --no-restart")
	sh(t, s.machine, "sync; systemctl reboot --no-block")
	s.returned()
	if v := s.running(); v != old {
		t.Errorf("after going back %s runs, not %s", v, old)
	}
	s.dropped()
	s.deliver("by the file of a newer version")
	said := sh(t, s.machine, "weir status || true")
	for _, want := range []string{"ALARM", "next_switch"} {
		if !strings.Contains(said, want) {
			t.Errorf("weir status does not tell of %q, which the newer version wrote: %s", want, said)
		}
	}
}

// TestBadUpgrade takes an update whose root is damaged: it is tried three times,
// and the machine comes back by itself. Bans hold.
func TestBadUpgrade(t *testing.T) {
	s, old := upgradable(t)
	s.upgrade("--no-restart /dev/vdb")
	sh(t, s.machine, "dd if=/dev/urandom of=/dev/vda5 bs=4096 seek=2000 count=4000 conv=notrunc; sync; systemctl reboot --no-block")
	s.returned()
	if *firmware == "bios" && !strings.Contains(s.machine.Console.Text(), "going back to "+old) {
		t.Error("GRUB did not say that it goes back")
	}
	if v := s.running(); v != old {
		t.Fatalf("after a broken update %s runs, not %s", v, old)
	}
	s.dropped()
	s.settled()
}

// TestWithoutRoot boots a disk whose root has no hash tree: the machine says what
// is wrong and restarts, so that a version on trial uses up its tries in place of
// waiting for somebody who knows a password.
func TestWithoutRoot(t *testing.T) {
	disk := disk(t)
	inside(t, "sh", "-euc", `cd /w
		qemu-img dd -U -f qcow2 -O raw if="$0" of="$0.gpt" bs=1M count=1
		truncate -s 4G "$0.gpt" # sfdisk believes no table that is larger than its disk
		start=$(sfdisk --dump "$0.gpt" 2>/dev/null | sed -n 's/.*start= *\([0-9]*\).*type=2C7357ED.*/\1/p')
		rm "$0.gpt"
		[ -n "$start" ]
		qemu-io -f qcow2 -c "write -P 0 $((start * 512)) 4096" "$0"`, disk)
	m := boot(t, Options{Disk: disk})
	for _, want := range []string{"It restarts in 30 seconds", "Restarting system"} {
		if _, err := m.Console.Expect(within(t, 20*time.Minute), want); err != nil {
			t.Fatal(err)
		}
		t.Logf("%q after %.0f s", want, m.Age().Seconds())
	}
}

// upgrade says it: a bundle is 170 MB to check and to write.
func (s *site) upgrade(args string) {
	s.t.Helper()
	if _, err := s.machine.Shell(within(s.t, 10*time.Minute), "weir upgrade "+args); err != nil {
		s.t.Fatal(err)
	}
}

// running is the version that runs.
func (s *site) running() string {
	s.t.Helper()
	return strings.TrimSpace(sh(s.t, s.machine, ". /etc/os-release; echo $IMAGE_VERSION"))
}

// settled waits until the version is confirmed.
func (s *site) settled() {
	s.t.Helper()
	if _, err := s.machine.Shell(within(s.t, 6*time.Minute), "until systemctl is-active -q weir-settle; do sleep 1; done"); err != nil {
		s.t.Fatal(err)
	}
}

// returned waits for a restart to be over.
func (s *site) returned() {
	s.t.Helper()
	if _, err := s.machine.Console.Expect(within(s.t, 5*time.Minute), "Restarting system"); err != nil {
		s.t.Fatal(err)
	}
	s.machine.Restarted()
	s.awaitGreeting()
}
