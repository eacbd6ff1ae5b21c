package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// A DNS is a real name server (unbound) that knows the lab's zones and nothing
// else.
type DNS struct {
	host *Host
	root *Root
	proc *Process

	records []string
	stubs   string
	mood    Mood
}

// Mood is what is wrong with a name server.
type Mood string

// The moods, beside Honest. One that is silent, or slow, is a process that is
// paused.
const (
	Honest   Mood = ""
	Refuses  Mood = "refuses"  // REFUSED to everything
	Fails    Mood = "fails"    // SERVFAIL
	Stranded Mood = "stranded" // SERVFAIL to all but what a cache has for days: the root
	Denies   Mood = "denies"   // NXDOMAIN
	Lies     Mood = "lies"     // an address for every name
)

// DNS starts a name server on a host and makes it the resolver of every host of
// the lab. Records are lines of a zone file with full names, such as
// "mail.example.com. A 192.0.2.1"; each reverse entry is a PTR line like any
// other. Names that no record has are NXDOMAIN.
func (h *Host) DNS(records ...string) *DNS {
	h.lab.t.Helper()
	d := &DNS{host: h, root: h.Root("unbound", "unbound")}
	d.Serve(records...)
	for _, a := range []netip.Addr{h.Addr(), h.Addr6()} {
		if a.IsValid() {
			h.lab.useResolver(a)
			break
		}
	}
	return d
}

// Serve replaces the records.
func (d *DNS) Serve(records ...string) {
	d.host.lab.t.Helper()
	d.records = records
	d.restart()
}

// Delegate has names of a zone asked of the name server of a host.
func (d *DNS) Delegate(zone string, to *Host) {
	d.host.lab.t.Helper()
	d.stubs += fmt.Sprintf("server:\n\tlocal-zone: %q transparent\n\tcache-max-ttl: 0\n\tcache-max-negative-ttl: 0\nstub-zone:\n\tname: %q\n\tstub-addr: %v\n", zone, zone, to.Addr())
	d.restart()
}

// Be puts the server in a mood.
func (d *DNS) Be(m Mood) {
	d.host.lab.t.Helper()
	d.mood = m
	d.restart()
}

func (d *DNS) restart() {
	d.host.lab.t.Helper()
	if d.proc != nil {
		d.proc.Stop(5 * time.Second)
	}
	if err := os.WriteFile(d.root.Path("/etc/unbound.conf"), []byte(d.conf()), 0o644); err != nil {
		d.host.lab.t.Fatalf("configure unbound: %v", err)
	}
	var err error
	d.proc, err = d.host.Start("unbound", d.root.Command("/usr/sbin/unbound", "-d", "-p", "-c", "/etc/unbound.conf"))
	if err != nil {
		d.host.lab.t.Fatalf("start unbound: %v", err)
	}
	d.host.lab.Eventually(10*time.Second, "unbound answers", d.host.namesAnswered)
}

// Process is the server, to be stopped or paused.
func (d *DNS) Process() *Process { return d.proc }

// conf makes the root zone static: what is not listed does not exist, and nothing
// is ever asked of anybody but for what was delegated.
func (d *DNS) conf() string {
	var b strings.Builder
	b.WriteString(`server:
	interface: 0.0.0.0
	interface: ::0
	access-control: 0.0.0.0/0 allow
	access-control: ::0/0 allow
	username: "unbound"
	chroot: ""
	directory: "/tmp"
	use-syslog: no
	module-config: "iterator"
	num-threads: 1
	hide-version: yes
`)
	switch d.mood {
	case Refuses:
		b.WriteString("\tlocal-zone: \".\" always_refuse\n")
	case Denies:
		b.WriteString("\tlocal-zone: \".\" always_nxdomain\n")
	case Lies:
		b.WriteString("\tlocal-zone: \".\" redirect\n\tlocal-data: '. 60 A 192.0.2.66'\n")
	case Fails, Stranded: // the only way out leads to where it may not ask
		d.writeDefaults(&b)
		if d.mood == Stranded {
			b.WriteString("\tlocal-zone: \".\" transparent\n" + root)
		}
		b.WriteString("forward-zone:\n\tname: \".\"\n\tforward-addr: 127.0.0.1@9\n")
	default:
		d.writeZones(&b)
	}
	b.WriteString("remote-control:\n\tcontrol-enable: no\n")
	return b.String()
}

func (d *DNS) writeZones(b *strings.Builder) {
	b.WriteString("\tlocal-zone: \".\" static\n" + root)
	d.writeDefaults(b)
	for _, r := range slices.Sorted(slices.Values(d.records)) {
		fmt.Fprintf(b, "\tlocal-data: '%s'\n", r)
	}
	b.WriteString(d.stubs)
}

const root = "\tlocal-data: '. 3600 SOA ns.lab.example. hostmaster.lab.example. 1 3600 600 86400 60'\n"

func (d *DNS) writeDefaults(b *strings.Builder) {
	for _, zone := range reverseZones {
		fmt.Fprintf(b, "\tlocal-zone: %q nodefault\n", zone)
	}
}

// reverseZones are those of documentation and private addresses (RFC 6303),
// which unbound keeps empty unless told otherwise.
var reverseZones = []string{
	"2.0.192.in-addr.arpa.", "100.51.198.in-addr.arpa.", "113.0.203.in-addr.arpa.",
	"18.198.in-addr.arpa.", "19.198.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa.",
}

// namesAnswered says whether a name server answers on the host at all, by a query
// for the root's SOA.
func (h *Host) namesAnswered() bool {
	ok := false
	_ = h.Do(func() error {
		c, err := net.DialTimeout("udp", "127.0.0.1:53", time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		query := []byte{0x4c, 0x41, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1} // RFC 1035 section 4.1
		if _, err := c.Write(query); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return err
		}
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		ok = err == nil && n >= 12
		return err
	})
	return ok
}

// useResolver names the resolver of every host there is and will be.
func (l *Lab) useResolver(server netip.Addr) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resolver = server
	for _, h := range l.hosts {
		if err := h.writeResolver(server); err != nil {
			l.t.Fatalf("name the resolver of %s: %v", h.Name, err)
		}
	}
}
