package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"mailweir/lab"
)

// cast is who plays: the hosts of the small internet and what runs on them.
type cast struct {
	ctx   context.Context
	stage *stage

	lab              *lab.Lab
	sender, attacker *lab.Host
	postfix          *lab.Postfix
	weir             *lab.Weir

	guesses []string // of the attacker, answered 550
	last    time.Time
}

const (
	mailbox = "anna@example.com"

	config = `hostname = "mx1.example.com"

[smtp]
greet_wait = "0s"

[firewall]
engine = %q

[backend.office]
url = "smtp://192.0.2.10:25"
tls = "off"

[domain."example.com"]
backends = ["office"]
`
)

var (
	edge         = netip.MustParseAddrPort("192.0.2.25:25")
	attackerAddr = netip.MustParseAddr("203.0.113.66")
)

// rehearse builds the small internet.
func rehearse(s *stage, weir, engine string) *cast {
	fmt.Fprintln(s.out, s.paint("1", "A small internet in network namespaces"))
	l := lab.New(s)
	if weir != "" {
		l.UseWeir(weir)
	}
	c := &cast{stage: s, lab: l}
	l.Host("ns", "192.0.2.53").DNS(
		"example.com. MX 10 mx1.example.com.",
		"mx1.example.com. A 192.0.2.25",
		"sender.example. MX 10 mail.sender.example.",
		"mail.sender.example. A 198.51.100.7",
		"7.100.51.198.in-addr.arpa. PTR mail.sender.example.",
		"66.113.0.203.in-addr.arpa. PTR host-66.pool.isp.example.",
		"host-66.pool.isp.example. A 203.0.113.66",
	)
	s.say("making it takes half a minute, and longer the first time: a server behind, with Postfix …")
	office := l.Host("office", "192.0.2.10")
	c.postfix = office.Postfix(lab.PostfixOptions{Users: []string{mailbox}})
	c.sender = l.Host("sender", "198.51.100.7")
	c.attacker = l.Host("attacker", attackerAddr.String())
	mx := l.Host("mx1", edge.Addr().String())
	s.say("… and the edge, with weir, which is built from this tree")
	c.weir = mx.Weir(fmt.Sprintf(config, engine))
	s.say("192.0.2.10    office    %s", c.version(office, "postfix/master"))
	s.say("192.0.2.25    mx1       weir run; its processes:")
	for _, role := range []string{"guard", "mail"} {
		s.say("                        %s", c.process(role))
	}
	s.say("198.51.100.7  sender    a mail server that has mail for %s", mailbox)
	s.say("203.0.113.66  attacker  who would like to know who else is there")
	return c
}

// version is what the server behind says of itself in its log.
func (c *cast) version(h *lab.Host, program string) string {
	for line := range strings.Lines(c.postfix.Log()) {
		if _, what, ok := strings.Cut(line, "daemon started -- "); ok && strings.Contains(line, program) {
			what, _, _ = strings.Cut(what, ",")
			return "Postfix, " + what
		}
	}
	c.stage.Fatalf("%s: no %s in the log", h.Name, program)
	return ""
}

// process is a role as the kernel sees it.
func (c *cast) process(role string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.weir.PID(role)))
	if err != nil {
		c.stage.Fatalf("look at the process of %s: %v", role, err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.Fields(value + " ?")[0]
		}
	}
	return fmt.Sprintf("%-5s  uid %s, capabilities: %s", role, fields["Uid"], capabilities(fields["CapEff"]))
}

// capabilities names the bits of a capability set (capabilities(7)) that guard
// has business with; any other is shown by its number.
func capabilities(hex string) string {
	set, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || set == 0 {
		return "none"
	}
	known := map[int]string{12: "CAP_NET_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
	var names []string
	for bit := range 64 {
		if set&(1<<bit) == 0 {
			continue
		}
		name, ok := known[bit]
		if !ok {
			name = fmt.Sprintf("number %d", bit)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (c *cast) goodMail() {
	const id = "<good-1@sender.example>"
	c.deliver(id, true)
	var file string
	c.lab.Eventually(10*time.Second, "the mail lies in the mailbox of the server behind", func() bool {
		for _, name := range c.postfix.Mail(mailbox) {
			if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), id) {
				file = string(b)
			}
		}
		return file != ""
	})
	c.stage.shell("cat new/*   # in the maildir of "+mailbox+", on office", file)
	if !strings.Contains(file, "by mx1.example.com") {
		c.stage.Fatalf("the mail carries no trace of mx1")
	}
}

// deliver has the good sender deliver a mail.
func (c *cast) deliver(id string, show bool) {
	client, greeting, err := c.sender.SMTP(c.ctx, netip.Addr{}, edge)
	if err != nil {
		c.stage.Fatalf("the sender cannot connect: %v", err)
	}
	defer client.Close()
	client.Helo = "mail.sender.example"
	r, err := client.Deliver("bob@sender.example", []string{mailbox},
		"From: bob@sender.example\r\nTo: "+mailbox+"\r\nSubject: lunch\r\nMessage-ID: "+id+"\r\n\r\nAt one?\r\n")
	if show {
		c.stage.wire(client.Transcript...)
	}
	if err != nil || r.Code != 250 || greeting.Code != 220 {
		c.stage.Fatalf("the good mail was not taken: %v %v", r, err)
	}
}

// attack guesses one address after the other until it hurts.
func (c *cast) attack() {
	const most = 200
	for connections := 0; len(c.guesses) < most && connections < 20; connections++ {
		if banned := c.guess(most); banned {
			break
		}
	}
	if len(c.guesses) == most {
		c.stage.Fatalf("%d guesses were answered and nothing happened", most)
	}
}

// guess makes one connection's guesses. It says whether the connection was cut,
// which is what a ban does to it.
func (c *cast) guess(most int) (cut bool) {
	client, _, err := c.attacker.SMTP(c.ctx, netip.Addr{}, edge)
	if err != nil {
		return true
	}
	defer client.Close()
	for _, line := range []string{"EHLO pool.isp.example", "MAIL FROM:<info@pool.isp.example>"} {
		r, err := client.Cmd("%s", line)
		if err != nil {
			return true
		}
		if r.Code != 250 {
			c.stage.Fatalf("the attacker cannot begin: %s: %v", line, r)
		}
	}
	first := len(c.guesses) == 0
	if first {
		c.stage.wire(client.Transcript[len(client.Transcript)-2:]...)
	}
	for n := 1; len(c.guesses) < most; n++ {
		name := guessed(len(c.guesses))
		r, err := client.Cmd("RCPT TO:<%s@example.com>", name)
		switch {
		case err != nil:
			c.stage.wire(fmt.Sprintf("… and so on: %d guesses, all refused, up to", len(c.guesses)))
			c.stage.wire(client.Transcript[max(0, len(client.Transcript)-3):]...)
			c.stage.wire(fmt.Sprintf("%v", err))
			return true
		case r.Code == 550 && strings.HasPrefix(r.String(), "550 5.1.1 "):
			c.guesses = append(c.guesses, name)
			c.last = time.Now()
		case r.Code == 421:
			return false // this connection has heard enough; the next one
		default:
			c.stage.Fatalf("a guess was answered: %v", r)
		}
		if first && n <= 3 {
			c.stage.wire(client.Transcript[len(client.Transcript)-2:]...)
		}
	}
	return false
}

// guessed is the n-th name of a dictionary.
func guessed(n int) string {
	given := []string{"adam", "bert", "carl", "dora", "emma", "fred", "gina", "hans", "ida", "john"}
	family := []string{"", ".smith", ".jones", ".meyer", ".novak", ".rossi", ".silva", ".dubois", ".kim", ".patel"}
	return given[n%len(given)] + family[n/len(given)%len(family)] + strings.Repeat("x", n/100)
}

// ban is a line of weir bans --json, as far as the demo looks at it.
type ban struct {
	Prefix  netip.Prefix `json:"prefix"`
	Since   time.Time    `json:"since"`
	Until   time.Time    `json:"until"`
	Reason  string       `json:"reason"`
	Packets uint64       `json:"packets"`
	Hits    []struct {
		Engine  string    `json:"engine"`
		Packets uint64    `json:"packets"`
		First   time.Time `json:"first"`
	} `json:"hits"`
}

func (c *cast) ban() (ban, bool) {
	bans, err := lab.Objects[ban](c.ctx, c.weir, "bans")
	if err != nil {
		c.stage.Fatalf("list the bans: %v", err)
	}
	for _, b := range bans {
		if b.Prefix.Contains(attackerAddr) {
			return b, true
		}
	}
	return ban{}, false
}

func (c *cast) dropped() {
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Second)
	defer cancel()
	began := time.Now()
	conn, err := c.attacker.Dial(ctx, edge)
	var late net.Error
	if err == nil {
		conn.Close()
		c.stage.Fatalf("the attacker is not dropped: he connects as if nothing had happened")
	} else if !errors.As(err, &late) || !late.Timeout() {
		c.stage.Fatalf("the attacker is not dropped: his connect should hear nothing, and hears: %v", err)
	}
	c.stage.say("the attacker connects again, and %.1f s later has heard nothing: %v", time.Since(began).Seconds(), err)
	b, ok := c.ban()
	if !ok || b.Packets == 0 || b.Reason != "harvest" {
		c.stage.Fatalf("the kernel counted no packet of a banned attacker: %+v", b)
	}
	c.show("bans")
	for _, h := range b.Hits {
		if h.Packets > 0 {
			c.stage.say("%s dropped the first of them %v after the refusal that convicted him had reached him",
				h.Engine, h.First.Sub(c.last).Round(time.Microsecond))
		}
	}
	c.deliver("<good-2@sender.example>", false)
	c.stage.say("meanwhile the good sender's next mail was taken: 250")
}

// show runs a command of weir, for everybody to read.
func (c *cast) show(args ...string) string {
	out, err := c.weir.Cmd(c.ctx, args...)
	if err != nil {
		c.stage.Fatalf("%v", err)
	}
	c.stage.shell("weir "+strings.Join(args, " "), out)
	return out
}

func (c *cast) why() {
	out := c.show("why", attackerAddr.String())
	for _, want := range []string{"harvest", c.guesses[0] + "@example.com"} {
		if !strings.Contains(out, want) {
			c.stage.Fatalf("weir why does not tell of %s", want)
		}
	}
}

func (c *cast) lifted() {
	c.show("unban", attackerAddr.String())
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
	defer cancel()
	client, greeting, err := c.attacker.SMTP(ctx, netip.Addr{}, edge)
	if err != nil || greeting.Code != 220 {
		c.stage.Fatalf("after the ban he cannot connect: %v %v", greeting, err)
	}
	defer client.Close()
	c.stage.say("he connects again:")
	c.stage.wire(client.Transcript...)
	if _, still := c.ban(); still {
		c.stage.Fatalf("the ban is still listed")
	}
}
