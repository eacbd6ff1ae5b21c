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

// TestUpgrade takes an update and keeps it, goes back by hand, and survives one
// whose root is damaged and one that does not find its root at all: the machine
// comes back by itself, and bans hold all the while. What the newer version has
// in its configuration file does not keep the older one from mail.
func TestUpgrade(t *testing.T) {
	bundle := otherBundle(t)
	s := newSite(t)
	s.extra = []string{"-drive", "if=virtio,format=raw,readonly=on,file=" + bundle}
	s.start()
	old := s.running()
	s.attack()
	s.dropped()
	s.settled()

	s.fallsBack(old, "dd if=/dev/urandom of=/dev/vda5 bs=4096 seek=2000 count=4000 conv=notrunc")
	if !strings.Contains(s.machine.Console.Text(), "dm-verity device corrupted") {
		t.Error("no kernel stopped at a damaged block")
	}
	s.fallsBack(old, "dd if=/dev/zero of=/dev/vda6 bs=4096 count=1 conv=notrunc") // the head of the hash tree
	if !strings.Contains(s.machine.Console.Text(), "It restarts in 30 seconds") {
		t.Error("without a root the mode of emergencies was not reached")
	}

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

// fallsBack takes an update that a command then damages: it is tried three
// times, and the version old runs again.
func (s *site) fallsBack(old, damage string) {
	s.t.Helper()
	s.upgrade("--no-restart /dev/vdb")
	sh(s.t, s.machine, damage+"; sync; systemctl reboot --no-block")
	s.returned()
	if *firmware == "bios" && !strings.Contains(s.machine.Console.Text(), "going back to "+old) {
		s.t.Error("GRUB did not say that it goes back")
	}
	if v := s.running(); v != old {
		s.t.Fatalf("after a broken update %s runs, not %s", v, old)
	}
	s.dropped()
	s.settled()
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
