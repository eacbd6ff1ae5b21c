package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/settings"
	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/smtp/relay"
)

// keyProbes has one probe for every key.
var keyProbes = map[string]probe{
	"hostname": {set: `"mx9.example.com"`, seen: func(b *keyBench) bool {
		_, greeting := b.call(b.source())
		return strings.HasPrefix(greeting.String(), "220 mx9.example.com ")
	}},
	"observe": {set: "true", seen: func(b *keyBench) bool { return b.guesses(b.source()) == mostGuesses }},
	"state_dir": {set: `"/var/lib/other"`, seen: func(b *keyBench) bool {
		return b.opens("mail", "/var/lib/other/mail/") && b.opens("guard", "/var/lib/other/guard/")
	}},
	"run_dir": {set: `"/run/other"`, seen: func(b *keyBench) bool {
		_, err := b.weir.Cmd(b.t.Context(), "bans", "--run-dir", "/run/other")
		return err == nil
	}},
	"users.mail": {set: `"nobody"`, also: map[string]string{"state_dir": `"/var/lib/nobody"`}, seen: func(b *keyBench) bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.weir.PID("mail")))
		return err == nil && strings.Contains(string(status), "\nUid:\t65534\t65534\t65534\t65534\n")
	}},

	"smtp.listen": {set: `["0.0.0.0:25", "0.0.0.0:2525"]`, seen: func(b *keyBench) bool {
		c, err := b.out.Dial(b.t.Context(), netip.AddrPortFrom(keyEdge.Addr(), 2525))
		if err == nil {
			c.Close()
		}
		return err == nil
	}},
	"smtp.max_message_size": {set: `"64KiB"`, seen: func(b *keyBench) bool {
		return say(b.mustCall(), "EHLO out.example", "MAIL FROM:<a@out.example> SIZE=70000").Code == 552
	}},
	"smtp.max_recipients": {set: "2", seen: func(b *keyBench) bool {
		return say(b.mustCall(), "EHLO out.example", "MAIL FROM:<a@out.example>",
			"RCPT TO:<"+b.rcpt()+">", "RCPT TO:<"+b.rcpt()+">", "RCPT TO:<"+b.rcpt()+">").Code == 452
	}},
	"smtp.max_connections": {set: "1", seen: func(b *keyBench) bool {
		b.mustCall()
		_, second := b.call(b.source())
		return second.Code == 421
	}},
	"smtp.per_source.open": {set: "1", seen: func(b *keyBench) bool {
		from := b.source()
		b.call(from)
		_, second := b.call(from)
		_, other := b.call(b.source())
		return second.Code == 421 && other.Code == 220
	}},
	"smtp.per_source.new_per_minute": {set: "1", seen: func(b *keyBench) bool {
		from := b.source()
		if c, _ := b.call(from); c != nil {
			say(c, "QUIT")
		}
		_, second := b.call(from)
		_, other := b.call(b.source())
		return second.Code == 421 && other.Code == 220
	}},
	"smtp.timeouts.command": {set: `"1s"`, seen: func(b *keyBench) bool { return !quiet(b.mustCall()) }},
	"smtp.timeouts.data_idle": {set: `"1s"`, seen: func(b *keyBench) bool {
		c := b.mustCall()
		say(c, "EHLO out.example", "MAIL FROM:<a@out.example>", "RCPT TO:<"+b.rcpt()+">", "DATA")
		return !quiet(c)
	}},
	"smtp.timeouts.session": {set: `"1s"`, seen: func(b *keyBench) bool {
		c := b.mustCall()
		for range 20 { // busy, so that no other time-out is due
			if say(c, "NOOP").Code != 250 {
				return true
			}
			time.Sleep(100 * time.Millisecond)
		}
		return false
	}},
	"smtp.greet_wait": {set: `"10s"`, seen: func(b *keyBench) bool {
		began := time.Now()
		b.mustCall()
		return time.Since(began) > time.Second
	}},
	"smtp.forwarders": {set: `["198.18.0.0/16"]`, seen: func(b *keyBench) bool { return b.guesses(b.source()) == mostGuesses }},

	"tls.certificates": {set: `[{ cert = "/etc/mailweir/mx.pem", key = "/etc/mailweir/mx.pem" }]`, seen: func(b *keyBench) bool {
		state, err := b.startTLS(&tls.Config{InsecureSkipVerify: true})
		return err == nil && state.PeerCertificates[0].Subject.CommonName == "bought.example.com"
	}},
	"tls.min_version": {set: `"1.3"`, seen: func(b *keyBench) bool {
		_, err := b.startTLS(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
		return err != nil
	}},
	"dns.servers": {set: `["192.0.2.54"]`, with: map[string]string{"backend.office.url": `"smtp://other.example.net"`},
		seen: func(b *keyBench) bool { return b.backend().State == "up" }},
	// A name is asked for three times: with the default the probe would wait for 15 s, twice.
	"dns.timeout": {set: `"100ms"`, with: map[string]string{"dns.timeout": `"1s"`, "dns.servers": `["192.0.2.10"]`, "backend.office.url": `"smtp://office.example.net"`},
		seen: func(b *keyBench) bool { return b.backend().State == "away" && b.backend().LatencyMs < 1500 }},

	"firewall.enabled":  {set: "false", seen: func(b *keyBench) bool { return !b.banned() }},
	"firewall.engine":   {set: `"nft"`, seen: func(b *keyBench) bool { return b.xdp() == "" && b.nft() }},
	"firewall.xdp_mode": {set: `"generic"`, seen: func(b *keyBench) bool { return strings.HasSuffix(b.xdp(), " generic") }},
	"firewall.interfaces": {set: `["lo"]`, with: map[string]string{"firewall.xdp_mode": `"generic"`, "firewall.engine": `"xdp"`}, seen: func(b *keyBench) bool {
		return strings.HasPrefix(b.xdp(), "lo ") && !b.banned()
	}},
	"firewall.ports": {set: "[26]", seen: func(b *keyBench) bool { return !b.banned() }},
	"firewall.ban_ttl": {set: `"2h"`, seen: func(b *keyBench) bool {
		from := b.source()
		b.guesses(from)
		return b.bannedFor(from) == 2*time.Hour
	}},
	"firewall.ban_max": {set: `"48h"`, with: map[string]string{"firewall.ban_ttl": `"2d"`}, seen: func(b *keyBench) bool {
		// A repeat takes a ban's whole time to come about: firewall's tests have
		// it under their own clock. What guard was given is what is seen here.
		return settings.Guard(b.cfg).BanMax == 48*time.Hour
	}},
	"firewall.never_ban": {set: `["198.18.0.0/16"]`, seen: func(b *keyBench) bool {
		return strings.Contains(b.cmd("why", b.source().String(), "--json"), `"`+firewall.GuardNeverBan+`"`) && b.guesses(b.source()) == mostGuesses
	}},
	"firewall.syn_limit": {set: "false", with: map[string]string{"smtp.per_source.new_per_minute": "2"}, seen: func(b *keyBench) bool {
		from := b.source()
		for range 8*2 + 4 { // the gate refuses most, and says so
			if b.dropped(from) {
				return false
			}
		}
		return true
	}},
	"firewall.flood_per_second": {set: "5", seen: func(b *keyBench) bool {
		from := b.source()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			b.call(from)
			if strings.Contains(strings.Join(b.status().Problems, "\n"), "firewall.flood_per_second") {
				return true
			}
		}
		return false
	}},
	"firewall.explain_per_hour": {set: "2", seen: func(b *keyBench) bool {
		from := b.source()
		b.cmd("ban", from.String(), "--why", "a test")
		if b.dropped(from) {
			return false
		}
		_, greeting := b.call(from)
		heard := greeting.Code == 554 && strings.Contains(greeting.String(), "5.7.1 Your address is banned") && strings.Contains(greeting.String(), "until 20")
		return heard && b.dropped(from) // the third within the hour
	}},
	"firewall.detach_on_stop": {set: "true", seen: func(b *keyBench) bool {
		b.weir.Stop()
		gone := !b.nft()
		b.weir.Start()
		return gone
	}},

	"geo.database": {set: `"/etc/mailweir/country.mmdb"`, seen: func(b *keyBench) bool {
		return strings.Contains(b.cmd("geo", "lookup", "198.18.1.7", "--json"), `"country":"NL"`)
	}},
	"geo.drop": {set: `["NL"]`, with: map[string]string{"geo.database": `"/etc/mailweir/country.mmdb"`}, seen: func(b *keyBench) bool {
		return b.dropped(b.source()) && strings.Contains(b.cmd("geo", "lookup", "198.18.1.7"), "geo.drop NL")
	}},
	"geo.ban": {set: `["NL"]`, with: map[string]string{"geo.database": `"/etc/mailweir/country.mmdb"`}, seen: func(b *keyBench) bool {
		from := b.source()
		b.call(from)
		return b.dropped(from) && strings.Contains(b.cmd("why", from.String()), " geo") && strings.Contains(b.cmd("geo", "lookup", from.String()), "geo.ban NL")
	}},
	"geo.asn": {set: `"/etc/mailweir/asn.mmdb"`, seen: func(b *keyBench) bool {
		return strings.Contains(b.cmd("geo", "lookup", "198.18.1.7", "--json"), `"asn":64500`)
	}},

	"harvest.enabled":          {set: "false", seen: func(b *keyBench) bool { return b.guesses(b.source()) == mostGuesses }},
	"harvest.unknown_per_hour": {set: "5", seen: convictsSoon},
	// Shares take known recipients between the guesses: harvest's tests have them
	// live, and what it was given is what is seen here.
	"harvest.share_per_hour": {set: "0.5", with: map[string]string{"harvest.unknown_per_hour": "15"},
		seen: func(b *keyBench) bool { return b.convictedBy(30, 18) == "unknown_per_hour" }},
	"harvest.unknown_per_day": {set: "5", with: map[string]string{"harvest.unknown_per_hour": "1000"}, seen: convictsSoon},
	"harvest.share_per_day": {set: "0.5", with: map[string]string{"harvest.unknown_per_hour": "1000", "harvest.unknown_per_day": "15"},
		seen: func(b *keyBench) bool { return b.convictedBy(30, 18) == "unknown_per_day" }},
	"harvest.absolute_per_day": {set: "5", with: map[string]string{"harvest.unknown_per_hour": "1000", "harvest.unknown_per_day": "1000"}, seen: convictsSoon},
	"harvest.traps": {set: `["user-trap@example.com"]`, seen: func(b *keyBench) bool {
		from := b.source()
		return b.names550(from, "user-trap@example.com") && b.dropped(from)
	}},
	"harvest.trap_hits": {set: "2", with: map[string]string{"harvest.traps": `["user-trap?@example.com"]`}, seen: func(b *keyBench) bool {
		from := b.source()
		if !b.names550(from, "user-trap1@example.com") || b.dropped(from) {
			return false
		}
		return b.names550(from, "user-trap2@example.com") && b.dropped(from)
	}},
	"harvest.complaints": {set: "1", seen: func(b *keyBench) bool {
		from := b.source()
		b.complain(from)
		if c, _ := b.call(from); c != nil {
			say(c, "EHLO out.example")
		}
		return b.dropped(from)
	}},

	"harvest.complaint_mailbox": {set: `"complaints@example.com"`, seen: func(b *keyBench) bool {
		return b.asks("complaints@example.com") == 250 // the sink knows users only
	}},

	"backend.NAME.url":       {set: `"smtp://192.0.2.11:25"`, seen: func(b *keyBench) bool { return b.arrives(b.second) }},
	"backend.NAME.tls":       {set: `"required"`, seen: func(b *keyBench) bool { return b.asks(b.rcpt()) == 451 }}, // nobody vouches for the sink's certificate
	"domain.NAME.backends":   {set: `["spare"]`, seen: func(b *keyBench) bool { return b.arrives(b.second) }},
	"domain.NAME.recipients": {set: `"file:/etc/mailweir/recipients"`, seen: func(b *keyBench) bool { return b.asks(b.rcpt()) == 550 }},
	"domain.NAME.max_message_size": {set: `"64KiB"`, seen: func(b *keyBench) bool {
		return say(b.mustCall(), "EHLO out.example", "MAIL FROM:<a@out.example> SIZE=70000", "RCPT TO:<"+b.rcpt()+">").Code == 552
	}},

	"records.keep":     {set: `"forever"`, seen: func(b *keyBench) bool { return settings.Records(b.cfg).Keep == 0 }}, // record's tests have it under their own clock
	"records.max_size": {set: `"16MiB"`, seen: func(b *keyBench) bool { return b.status().Mail.Records.MaxBytes == 16<<20 }},

	"metrics.listen": {set: `"127.0.0.1:9126"`, seen: func(b *keyBench) bool {
		_, err := b.scrape("127.0.0.1:9126")
		return err == nil
	}},

	"syslog.NAME.target":   {set: `"tcp://192.0.2.10:601"`, seen: func(b *keyBench) bool { return b.event("192.0.2.10:601", nil) != "" }},
	"syslog.NAME.facility": {set: `"local7"`, with: map[string]string{"syslog.siem.target": `"tcp://192.0.2.10:601"`}, seen: func(b *keyBench) bool { return strings.Contains(b.event("192.0.2.10:601", nil), "19") }},
	"syslog.NAME.buffer":   {set: `"1MiB"`, with: map[string]string{"syslog.siem.target": `"tcp://192.0.2.10:601"`}, seen: func(b *keyBench) bool { return b.status().Mail.Syslog["siem"].Most == 1<<20 }}, // syslog's tests fill it
	"syslog.NAME.ca": {set: `"/etc/mailweir/mx.pem"`, with: map[string]string{"syslog.siem.target": `"tls://192.0.2.10:6514"`}, seen: func(b *keyBench) bool {
		return b.event("192.0.2.10:6514", &tls.Config{Certificates: []tls.Certificate{b.cert}}) != ""
	}},
	"system.interfaces": {set: `{ eth7 = ["192.0.2.77/24"] }`, seen: systemShows("Name=eth7\n", "Address=192.0.2.77/24\n")},
	"system.routes": {set: `{ default = ["192.0.2.1"] }`, with: map[string]string{"system.interfaces": `{ eth7 = ["192.0.2.77/24"] }`},
		seen: systemShows("[Route]\nGateway=192.0.2.1\n")},
	"system.dns":       {set: `["192.0.2.99"]`, seen: systemShows("forward-addr: 192.0.2.99@53\n")},
	"system.ntp":       {set: `["ntp.example.net"]`, seen: systemShows("server ntp.example.net iburst\n")},
	"system.operators": {set: `{ anna = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEW5K7t89vEsUHNPvjp9JHHSKgt/4tyKLnzNrIO2hwSS"] }`, seen: systemShows(`"userName":"anna"`, "keys/anna\nssh-ed25519 ")},
}

// scrape reads the metrics as somebody on the edge's machine.
func (b *keyBench) scrape(at string) (string, error) {
	b.t.Helper()
	var text []byte
	err := b.edge.Do(func() error {
		conn, err := net.DialTimeout("tcp", at, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "GET /metrics HTTP/1.0\r\n\r\n")
		text, err = io.ReadAll(conn)
		return err
	})
	return string(text), err
}

// opens says whether a role has a file below a folder open, or opens one soon:
// it is ready before the first of its files is written.
func (b *keyBench) opens(role, folder string) bool {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b.hasOpen(role, folder) {
			return true
		}
	}
	return false
}

func (b *keyBench) hasOpen(role, folder string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.weir.PID(role)))
	return slices.ContainsFunc(fds, func(fd string) bool {
		to, err := os.Readlink(fd)
		return err == nil && strings.HasPrefix(to, folder)
	})
}

// asks is the code that a recipient is answered with.
func (b *keyBench) asks(rcpt string) int {
	return say(b.mustCall(), "EHLO out.example", "MAIL FROM:<a@out.example>", "RCPT TO:<"+rcpt+">").Code
}

// arrives sends a message and says whether it came to s.
func (b *keyBench) arrives(s *sink) bool {
	b.t.Helper()
	to := b.rcpt()
	r, err := b.mustCall().Deliver("a@out.example", []string{to}, "Subject: "+to+"\r\n\r\nhello\r\n")
	if err != nil || r.Code != 250 {
		b.t.Fatalf("the message is not taken: %v, %v", r, err)
	}
	return s.has("Subject: " + to)
}

// startTLS speaks TLS with the edge.
func (b *keyBench) startTLS(conf *tls.Config) (tls.ConnectionState, error) {
	c := b.mustCall()
	if r := say(c, "EHLO out.example", "STARTTLS"); r.Code != 220 {
		return tls.ConnectionState{}, fmt.Errorf("no STARTTLS: %v", r)
	}
	conn := tls.Client(c.Conn(), conf)
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	err := conn.Handshake()
	return conn.ConnectionState(), err
}

// edgeStatus is what weir status says of the edge.
type edgeStatus struct {
	Guard    *guard.Status
	Mail     *mailapi.Status
	Problems []string
}

func (b *keyBench) status() (s edgeStatus) {
	b.t.Helper()
	out, _ := b.weir.Cmd(b.t.Context(), "status", "--json", "--run-dir", b.cfg.RunDir) // exit status 1 when there is an alarm
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Mail == nil || s.Guard == nil {
		b.t.Fatalf("weir status says %q (%v)", out, err)
	}
	return s
}

// backend is how backend.office stands, once it was asked something.
func (b *keyBench) backend() (office relay.BackendStatus) {
	b.t.Helper()
	b.asks(b.rcpt())
	b.Eventually(30*time.Second, "the backend was asked", func() bool {
		for _, s := range b.status().Mail.Backends {
			if s.Name == "office" {
				office = s
			}
		}
		return office.State == "up" || office.State == "away"
	})
	return office
}

// xdp is where the packet program stands on the edge, and how; "" for nowhere.
func (b *keyBench) xdp() string {
	for _, e := range b.status().Guard.Engines {
		if e.Engine == "xdp" && len(e.Interfaces) > 0 {
			return e.Interfaces[0].Name + " " + e.Interfaces[0].Mode
		}
	}
	return ""
}

// nft says whether the edge's kernel has our table.
func (b *keyBench) nft() bool {
	b.t.Helper()
	out, err := b.edge.Run(b.t.Context(), "/usr/sbin/nft", "list", "tables")
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Contains(out, "mailweir")
}

// bannedFor is how long the ban of an address is.
func (b *keyBench) bannedFor(a netip.Addr) time.Duration {
	b.t.Helper()
	var ban guard.BanInfo
	out := b.cmd("bans", a.String(), "--json")
	if err := json.Unmarshal([]byte(out), &ban); err != nil {
		b.t.Fatalf("weir bans says %q: %v", out, err)
	}
	return ban.Until.Sub(ban.Since).Round(time.Minute)
}

// event has a collector listen and a client come, and returns the priority of
// the event that tells of him, or "". Others may wait from before.
func (b *keyBench) event(at string, conf *tls.Config) string {
	b.t.Helper()
	l, err := b.office.Listen(netip.MustParseAddrPort(at))
	if err != nil {
		b.t.Fatal(err)
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	defer l.Close()
	b.names++
	helo := fmt.Sprintf("probe%d.example", b.names)
	heard := make(chan string, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go hearEvent(conn, regexp.MustCompile(`<(\d+)>1 [^<]* TRANSACTION [^<]*helo="`+regexp.QuoteMeta(helo)+`"`), heard)
		}
	}()
	say(b.mustCall(), "EHLO "+helo, "MAIL FROM:<a@out.example>", "RCPT TO:<"+b.rcpt()+">", "QUIT")
	select {
	case pri := <-heard:
		return pri
	case <-time.After(3 * time.Second):
		return ""
	}
}

// hearEvent reads from a client until what it says matches.
func hearEvent(conn net.Conn, want *regexp.Regexp, heard chan<- string) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	var all []byte
	for text := make([]byte, 4096); ; {
		n, err := conn.Read(text)
		all = append(all, text[:n]...)
		if m := want.FindSubmatch(all); m != nil {
			heard <- string(m[1])
			return
		}
		if err != nil {
			return
		}
	}
}

// put writes a file on the edge that the mail role can read.
func (b *keyBench) put(name string, content []byte) {
	b.t.Helper()
	path := b.edge.Path(filepath.Join("/etc/mailweir", name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

// names550 says whether a recipient is refused as unknown users are.
func (b *keyBench) names550(from netip.Addr, to string) bool {
	b.guessed = true
	c, _ := b.call(from)
	if c == nil {
		return false
	}
	r := say(c, "EHLO out.example", "MAIL FROM:<a@out.example>", "RCPT TO:<"+to+">")
	return r.Code == 550 && strings.Contains(r.String(), "5.1.1 Recipient unknown (ref ")
}

// complain has the recipient of a message that an address just delivered
// complain about it, and proves it.
func (b *keyBench) complain(from netip.Addr) {
	b.t.Helper()
	c, _ := b.call(from)
	if c == nil {
		b.t.Fatal("the edge does not greet")
	}
	if r, err := c.Deliver("a@out.example", []string{b.rcpt()}, "Subject: offer\r\n\r\nbuy\r\n"); err != nil || r.Code != 250 {
		b.t.Fatalf("the message is not taken: %v, %v", r, err)
	}
	say(c, "QUIT")
	var l struct{ Ref string }
	if err := json.Unmarshal([]byte(b.cmd("records", "--addr", from.String(), "--limit", "1", "--json")), &l); err != nil {
		b.t.Fatal(err)
	}
	b.cmd("complain", from.String(), "--ref", l.Ref)
}

// systemShows says whether weir system show prints all of these. What comes of
// the files is seen on the image itself (image/vm).
func systemShows(parts ...string) func(b *keyBench) bool {
	return func(b *keyBench) bool {
		text := b.cmd("system", "show")
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
	}
}
