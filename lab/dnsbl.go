package lab

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// A DNSBL is a real name server of DNS lists (rbldnsd) with one list of
// addresses.
type DNSBL struct {
	host *Host
	root *Root
	zone string
	proc *Process
}

// DNSBL starts one on a host. Entries are lines of rbldnsd's ip4trie, such as
// "203.0.113.7 :127.0.0.2:spam source"; the test entry of RFC 5782 is there.
func (h *Host) DNSBL(zone string, entries ...string) *DNSBL {
	h.lab.t.Helper()
	b := &DNSBL{host: h, root: h.Root("rbldnsd", "rbldnsd"), zone: zone}
	b.List(entries...)
	return b
}

// List replaces the entries.
func (b *DNSBL) List(entries ...string) {
	t := b.host.lab.t
	t.Helper()
	if b.proc != nil {
		b.proc.Signal(syscall.SIGCONT)
		b.proc.Stop(5 * time.Second)
	}
	zone := "$SOA 1 ns." + b.zone + " hostmaster." + b.zone + " 1 60 60 60 1\n$NS 1 ns." + b.zone + "\n127.0.0.2 :127.0.0.2:test\n" + strings.Join(entries, "\n") + "\n"
	if err := os.WriteFile(b.root.Path("/tmp/list"), []byte(zone), 0o644); err != nil {
		t.Fatalf("write the list: %v", err)
	}
	var err error
	b.proc, err = b.host.Start("rbldnsd", b.root.Command("/usr/sbin/rbldnsd", "-n", "-u", "nobody:nobody", "-w", "/tmp", "-b", "0.0.0.0/53", "-t", "1:1:1", b.zone+":ip4trie:list"))
	if err != nil {
		t.Fatalf("start rbldnsd: %v", err)
	}
	b.host.lab.Eventually(10*time.Second, "rbldnsd answers", b.host.namesAnswered)
}

// Process is the server, to be stopped or paused.
func (b *DNSBL) Process() *Process { return b.proc }
