package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailweir/lab"
)

// outage is an edge that asks a real resolver and a real DNS list, and senders
// who have everything in order.
type outage struct {
	*site
	list *lab.DNSBL
	next int // sender
}

const outageSettings = `hostname = "mx1.example.com"

[smtp]
greet_wait = "0s"
per_source = { open = 100, new_per_minute = 100000 }

[firewall]
enabled = false

[greylist]
mode = "off"

[dnsbl.bl]
zone = "bl.example"
scores = { "127.0.0.2" = 8 }

[backend.office]
url = "smtp://192.0.2.10:25"
tls = "off"

[domain."example.com"]
backends = ["office"]
`

// senders is how many write in each state: nobody is known from before.
const senders = 10

func newOutage(t *testing.T) *outage {
	o := &outage{site: &site{Lab: lab.New(t)}}
	records := []string{
		"example.com. MX 10 mx1.example.com.", "mx1.example.com. A 192.0.2.25",
		"66.100.51.198.in-addr.arpa. PTR mail.bad.example.", "mail.bad.example. A 198.51.100.66", "bad.example. MX 10 mail.bad.example.",
	}
	for i := range 200 {
		records = append(records,
			fmt.Sprintf("%d.1.18.198.in-addr.arpa. PTR mail.s%d.example.", i, i), fmt.Sprintf("mail.s%d.example. A 198.18.1.%d", i, i),
			fmt.Sprintf("s%d.example. MX 10 mail.s%d.example.", i, i), fmt.Sprintf(`s%d.example. TXT "v=spf1 ip4:198.18.1.%d -all"`, i, i))
	}
	o.dns = o.Host("ns", "192.0.2.53").DNS(records...)
	bl := o.Host("bl", "192.0.2.54")
	o.list = bl.DNSBL("bl.example", "198.51.100.66 :127.0.0.2:spam source")
	o.dns.Delegate("bl.example", bl)
	o.office = o.Host("office", "192.0.2.10")
	o.postfix = o.office.Postfix(lab.PostfixOptions{Users: []string{anna}})
	o.sender = o.Host("senders", "198.18.1.0/24", "198.51.100.66")
	o.edge = o.Host("mx1", edge4.Addr().String())
	o.weir = o.edge.Weir(outageSettings)
	return o
}

// mail has somebody new send a mail, and returns the reply that decided it.
func (o *outage) mail(t *testing.T, i int) lab.Reply {
	host := fmt.Sprintf("s%d.example", i)
	c, greeting, err := o.sender.SMTP(t.Context(), netip.AddrFrom4([4]byte{198, 18, 1, byte(i)}), edge4)
	if err != nil {
		t.Errorf("%s: %v", host, err)
		return lab.Reply{}
	}
	defer c.Close()
	if greeting.Code != 220 {
		return greeting
	}
	c.Helo = "mail." + host
	r, err := c.Deliver("x@"+host, []string{anna}, strings.Replace(message(fmt.Sprintf("<outage-%d@%s>", i, host), "x", "x\r\n"), "x@sender.example", "x@"+host, 1))
	if err != nil {
		t.Errorf("%s: %v", host, err)
	}
	return r
}

// allPass has everybody's mail taken, and returns how many were not.
func (o *outage) allPass(t *testing.T, state string) (refused int) {
	var all sync.WaitGroup
	replies := make([]lab.Reply, senders)
	for i := range replies {
		n := o.next + i
		all.Go(func() { replies[i] = o.mail(t, n) })
	}
	all.Wait()
	o.next += senders
	for _, r := range replies {
		if r.Code != 250 {
			refused++
			t.Errorf("%s: %v", state, r)
		}
	}
	return refused
}

// bad is what a listed sender hears.
func (o *outage) bad(t *testing.T) lab.Reply {
	c, _, err := o.sender.SMTP(t.Context(), netip.MustParseAddr("198.51.100.66"), edge4)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Helo = "mail.bad.example"
	r, err := c.Deliver("x@bad.example", []string{anna}, message("<bad@bad.example>", "x", "x\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (o *outage) alarmed(t *testing.T, name string) bool {
	out, _ := o.weir.Cmd(t.Context(), "status", "--json") // exit 1: something is wrong
	return strings.Contains(out, name)
}

// R-CX-03, R-BX-24: DNS of ours that is slow, failing, lying or dead, and a list
// that is dead, mad or lists the world, refuse and delay nobody, and an alarm
// names them.
func TestOutagesOfDNSRefuseNobody(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.Eventually(20*time.Second, "the list is asked", func() bool { return !o.alarmed(t, "under way") })
	states := []struct {
		name  string
		do    func() (undo func())
		alarm string
	}{
		{"all is well", func() func() { return func() {} }, ""},
		{"slow", func() func() { return o.stutter(t) }, ""},
		{"REFUSED", o.mood(lab.Refuses), "DNS is sick"},
		{"SERVFAIL", o.mood(lab.Fails), "DNS is sick"},
		{"SERVFAIL but for the root", o.mood(lab.Stranded), "DNS is sick"},
		{"NXDOMAIN for all", o.mood(lab.Denies), "DNS is sick"},
		{"lying", o.mood(lab.Lies), "DNS is sick"},
		{"dead", func() func() {
			o.dns.Process().Signal(syscall.SIGSTOP)
			return func() { o.dns.Process().Signal(syscall.SIGCONT) }
		}, "DNS is sick"},
		{"list dead", func() func() {
			o.list.Process().Signal(syscall.SIGSTOP)
			return func() {
				o.list.Process().Signal(syscall.SIGCONT)
				o.dns.Be(lab.Honest) // the old one has given the list up for minutes
			}
		}, ""},
		{"list of the world", o.lists("0.0.0.0/0 :127.0.0.2:all of you"), "dnsbl.bl is suspended and counts for nobody: it lists the world"},
		{"list asks us to go", o.lists("0.0.0.0/0 :127.255.255.254:go away"), "it refuses our questions (127.255.255.254)"},
		{"well again", func() func() { return func() {} }, ""},
	}
	refused := 0
	for _, s := range states {
		began := time.Now()
		undo := s.do()
		refused += o.allPass(t, s.name)
		if s.alarm != "" {
			o.Eventually(20*time.Second, s.name+": an alarm says "+s.alarm, func() bool { return o.alarmed(t, s.alarm) })
		} else if o.alarmed(t, "DNS is sick") {
			t.Errorf("%s: an alarm for nothing", s.name)
		}
		if s.alarm == "DNS is sick" && o.alarmed(t, "dnsbl.bl is suspended") {
			t.Errorf("%s: the list is blamed", s.name)
		}
		undo()
		o.Eventually(20*time.Second, s.name+" is over", func() bool { return !o.alarmed(t, "DNS is sick") })
		if s.name == "all is well" || s.name == "well again" {
			if r := o.bad(t); r.Code != 554 || !strings.Contains(r.String(), "bl (127.0.0.2)") {
				t.Errorf("%s: who is listed hears %v", s.name, r)
			}
		}
		t.Logf("%s: %v", s.name, time.Since(began).Round(time.Millisecond))
	}
	t.Logf("mail refused or delayed in %d states: %d of %d", len(states), refused, o.next)
}

func (o *outage) mood(m lab.Mood) func() func() {
	return func() func() {
		o.dns.Be(m)
		return func() { o.dns.Be(lab.Honest) }
	}
}

// lists replaces the entries of the list for a while; the edge starts anew
// behind it, since a list that was suspended is tested again only in ten minutes.
func (o *outage) lists(entry string) func() func() {
	return func() func() {
		o.list.List(entry)
		return func() {
			o.list.List("198.51.100.66 :127.0.0.2:spam source")
			o.weir.Stop()
			o.weir.Start()
		}
	}
}

// stutter lets the resolver answer for a moment every second.
func (o *outage) stutter(t *testing.T) (undo func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			signal := syscall.SIGSTOP
			if n%10 == 9 {
				signal = syscall.SIGCONT
			}
			o.dns.Process().Signal(signal)
			select {
			case <-tick.C:
			case <-stop:
				o.dns.Process().Signal(syscall.SIGCONT)
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}
