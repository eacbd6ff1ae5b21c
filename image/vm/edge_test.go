//go:build image

package vm

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

var (
	edgeAddr = netip.MustParseAddr("192.0.2.25")
	edgePort = netip.AddrPortFrom(edgeAddr, 25)
	friend   = netip.MustParseAddr("203.0.113.1")
	attacker = netip.MustParseAddr("198.51.100.7")
)

// site is the image at the edge of a lab: name servers, a mail server behind
// it, clients outside.
type site struct {
	*lab.Lab
	t       *testing.T
	office  *lab.Postfix
	log     *lab.Host
	logged  string // the file of the collector
	out     *lab.Host
	bad     *lab.Host
	key     string // the operator's public key
	seat    lab.Seat
	disk    string
	extra   []string // of QEMU's arguments
	machine *Machine
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Lab: lab.New(t), t: t, disk: disk(t)}
	s.Host("ns", "192.0.2.53").DNS("mx1.example.com. A 192.0.2.25", "25.2.0.192.in-addr.arpa. PTR mx1.example.com.",
		"1.113.0.203.in-addr.arpa. PTR out.example.", "out.example. A 203.0.113.1", "out.example. MX 10 out.example.")
	s.office = s.Host("office", "192.0.2.10").Postfix(lab.PostfixOptions{Users: []string{"anna@example.com", "bert@example.com"}})
	s.out = s.Host("out", friend.String())
	s.operator()
	s.bad = s.Host("bad", attacker.String())
	s.seat = s.Host("mx1", edgeAddr.String()).Seat()
	return s
}

// seed is the configuration file that the machine gets at its first boot.
func (s *site) seed() string {
	var own, gateways []string
	for _, a := range s.seat.Addresses {
		own = append(own, fmt.Sprintf("%q", a))
	}
	for _, g := range s.seat.Gateways {
		gateways = append(gateways, fmt.Sprintf("%q", g))
	}
	return fmt.Sprintf(`hostname = "mx1.example.com"

[smtp]
greet_wait = "0s"

[dns]
servers = ["192.0.2.53"]

[checks]
set = { rdns_missing = "off", sender_nxdomain = "off", helo_unresolvable = "off" }

[greylist]
mode = "off"

[backend.office]
url = "smtp://192.0.2.10:25"

[domain."example.com"]
backends = ["office"]

[system]
dns = ["192.0.2.53"]

[system.interfaces]
eth0 = [%s]

[system.routes]
default = [%s]

[system.operators]
%s
`, strings.Join(own, ", "), strings.Join(gateways, ", "), fmt.Sprintf("anna = [%q]", s.key))
}

// start switches the machine on and waits until it greets from outside. What the
// program of the image says of the seed is known in a second, and not only when
// the machine is up and does not greet.
func (s *site) start() {
	s.t.Helper()
	seed := filepath.Join(s.t.TempDir(), "weir.toml")
	if err := os.WriteFile(seed, []byte(s.seed()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(tree(s.t), ".cache/image/in/weir"), "check", "-c", seed).CombinedOutput(); err != nil {
		s.t.Fatalf("the seed is bad: %s", out)
	}
	s.machine = boot(s.t, Options{Disk: s.disk, Namespace: s.seat.Namespace, Tap: s.seat.Tap, Seed: s.seed(), Extra: s.extra})
	s.awaitGreeting()
}

func (s *site) awaitGreeting() {
	s.t.Helper()
	s.Eventually(40*time.Minute, "the edge greets", func() bool {
		c, greeting, err := s.out.SMTP(within(s.t, 10*time.Second), friend, edgePort)
		if err == nil {
			c.Close()
		}
		return err == nil && greeting.Code == 220
	})
	s.t.Logf("first greeting from outside after %.1f s", s.machine.Age().Seconds())
}

// deliver sends a message from outside and finds it behind the edge.
func (s *site) deliver(subject string) {
	s.t.Helper()
	before := len(s.office.Mail("anna@example.com"))
	c, _, err := s.out.SMTP(within(s.t, time.Minute), friend, edgePort)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	c.Helo = "out.example"
	r, err := c.Deliver("a@out.example", []string{"anna@example.com"}, "Subject: "+subject+"\r\n\r\nhello\r\n")
	if err != nil || r.Code != 250 {
		s.t.Fatalf("the message is not taken: %v, %v", r, err)
	}
	s.Eventually(time.Minute, "the message is in the mailbox", func() bool { return len(s.office.Mail("anna@example.com")) == before+1 })
}

// attack guesses addresses until the machine hangs up.
func (s *site) attack() {
	s.t.Helper()
	for round := range 6 {
		c, _, err := s.bad.SMTP(within(s.t, 40*time.Second), attacker, edgePort)
		if err != nil {
			return
		}
		c.Cmd("EHLO bad.example")
		c.Cmd("MAIL FROM:<x@bad.example>")
		for i := range 12 {
			if _, err := c.Cmd("RCPT TO:<guess%d-%d@example.com>", round, i); err != nil {
				break
			}
		}
		c.Close()
	}
}

// dropped holds that the attacker is not even refused: he hears nothing.
func (s *site) dropped() {
	s.t.Helper()
	if c, _, err := s.bad.SMTP(within(s.t, 5*time.Second), attacker, edgePort); err == nil {
		c.Close()
		s.t.Error("the attacker still gets a greeting")
	}
	if out := sh(s.t, s.machine, "weir bans"); !strings.Contains(out, attacker.String()) {
		s.t.Errorf("weir bans does not show the attacker: %s", out)
	}
}

// TestEdge has the finished image take mail from outside, relay it to a server
// behind, ban an attacker in the kernel, tell a collector over TLS, answer an
// operator, and keep all of that over a power cut (R-MC-05 to 07).
func TestEdge(t *testing.T) {
	s := newSite(t)
	s.collector()
	s.start()
	s.deliver("first")
	s.operates()
	s.attack()
	s.dropped()
	if out := sh(t, s.machine, "weir status --json || true"); !strings.Contains(out, `"mode":"native"`) && !strings.Contains(out, `"mode": "native"`) {
		t.Errorf("XDP is not native on virtio-net: %s\n%s", out, sh(t, s.machine, "dmesg | grep -i -e virtio -e xdp | tail; ip -d link show eth0"))
	}
	t.Logf("weir status\n%s", sh(t, s.machine, "weir status || true"))
	s.deliver("second")
	if _, err := s.ssh("", "bans"); err != nil { // the first log-in that the collector can hear of
		t.Errorf("weir bans by SSH: %v", err)
	}
	s.collected(" TRANSACTION ", " CONVICTION ", " BAN ", attacker.String(), "Accepted publickey for anna")
	records, events := s.records(), s.transactions()

	s.machine.Cut()
	t.Logf("the power is cut, after %d transactions", records)
	s.start()
	s.dropped()
	if after := s.records(); after < records {
		t.Errorf("after the power cut there are %d records, before %d", after, records)
	}
	s.deliver("third")
	s.Eventually(3*time.Minute, "the collector hears of the third", func() bool { return s.transactions() > events })
}

func (s *site) records() (n int) {
	s.t.Helper()
	out := sh(s.t, s.machine, "weir records --json | wc -l")
	if _, err := fmt.Sscan(out, &n); err != nil {
		s.t.Errorf("the number of records is %q", out)
	}
	return n
}
