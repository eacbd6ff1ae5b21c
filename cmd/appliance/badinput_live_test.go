package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests give the running appliance what it should never meet: each time
// there is a clear message, nothing is lost, every process keeps its pid, and
// nobody innocent is banned.

// survivor is the appliance before something bad happens to it.
type survivor struct {
	*keyBench
	guard, mail int // pids
}

func (b *keyBench) survivor() survivor {
	return survivor{b, b.weir.PID("guard"), b.weir.PID("mail")}
}

// unharmed holds what has to hold however bad it gets.
func (s survivor) unharmed() {
	s.t.Helper()
	if g, m := s.weir.PID("guard"), s.weir.PID("mail"); g != s.guard || m != s.mail {
		s.t.Errorf("pids were %d and %d, and are %d and %d", s.guard, s.mail, g, m)
	}
	if !s.free(s.source()) {
		s.t.Error("a good source does not get in")
	}
}

// alarm waits for an alarm that has all of these words: weir status shows it,
// and it is an event (R-MC-07), here on standard error.
func (b *keyBench) alarm(words ...string) {
	b.t.Helper()
	var all []string
	ok := false
	for end := time.Now().Add(100 * time.Second); !ok && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		all = b.status().Problems
		for _, a := range all {
			ok = ok || containsAll(a, words)
		}
	}
	if !ok {
		b.t.Errorf("no alarm says %q: %q", words, all)
	}
	b.Eventually(60*time.Second, fmt.Sprintf("an event ALARM says %q", words), func() bool { return b.said("alarm", words) })
}

// said says whether one event of this kind has all of these words.
func (b *keyBench) said(kind string, words []string) bool {
	for line := range strings.Lines(b.weir.Log()) {
		if strings.Contains(line, "Z "+kind+": ") && containsAll(strings.ReplaceAll(line, "\\", ""), words) {
			return true
		}
	}
	return false
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// well waits until nothing is wrong any more.
func (b *keyBench) well() {
	b.t.Helper()
	b.Eventually(60*time.Second, "all is well again", func() bool { return len(b.status().Problems) == 0 })
}

// A full disk: mail that fits in memory passes, what does not hears 452 and comes
// again, guessers are dropped all the same, and what was not written is when
// there is room.
func TestFullDiskLive(t *testing.T) {
	b := newKeyBench(t)
	b.weir.Stop()
	b.shell(b.edge, "mkdir -p /var/lib/mailweir && mount -t tmpfs -o size=24m,mode=755 tmpfs /var/lib/mailweir")
	b.weir.Start()
	s := b.survivor()
	b.shell(b.edge, "cat /dev/zero >/var/lib/mailweir/ballast")
	if !b.arrives(b.first) {
		t.Error("a small message does not arrive")
	}
	large := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 2000)
	if r, err := b.mustCall().Deliver("a@out.example", []string{b.rcpt()}, large); err != nil || r.Code != 452 {
		t.Errorf("a large message hears %v, %v", r, err)
	}
	guesser := b.source()
	if n := b.guesses(guesser); n != 25 || !b.dropped(guesser) {
		t.Errorf("%d guesses are answered", n)
	}
	b.alarm("bans are not saved", "make room")
	b.alarm("records", "make room")
	s.unharmed()
	b.shell(b.edge, "rm /var/lib/mailweir/ballast")
	b.well()
	if r, err := b.mustCall().Deliver("a@out.example", []string{b.rcpt()}, large); err != nil || r.Code != 250 {
		t.Errorf("with room a large message hears %v, %v", r, err)
	}
	s.unharmed()
	b.weir.Stop()
	b.weir.Start()
	if !b.dropped(guesser) {
		t.Error("the ban is lost with the restart")
	}
	if out := b.cmd("why", guesser.String()); !strings.Contains(out, "25 unknown") {
		t.Errorf("the evidence is lost: %s", out)
	}
}

// What lies on the disk is cut and overwritten between two runs: both roles
// start, say what they could not read, and keep what they could.
func TestDamagedStateLive(t *testing.T) {
	b := newKeyBench(t)
	first, second := b.source(), b.source()
	b.cmd("ban", first.String(), "--why", "test")
	b.weir.Stop()
	b.shell(b.edge, `cd /var/lib/mailweir && ls guard/ledger >/tmp/sound && size=$(stat -c %s guard/ledger/log*) && echo $size >/tmp/size`)
	b.weir.Start()
	b.cmd("ban", second.String(), "--why", "test")
	if !b.arrives(b.first) {
		t.Fatal("the message did not arrive")
	}
	b.weir.KillAll()
	said := b.shell(b.edge, `cd /var/lib/mailweir && for log in guard/ledger/log*; do truncate -s -7 $log; done
		for f in mail/records/records.db mail/harvest.state guard/allow.json mail/tls.key mail/self-signed.pem; do
			if [ -e $f ]; then head -c 100000 /dev/urandom >$f; fi; done; rm -f mail/records/*-wal mail/records/*-shm; find . -type f`)
	b.weir.Start()
	s := b.survivor()
	if !b.dropped(first) {
		t.Errorf("the ban before the cut is lost; files:\n%s", said)
	}
	if !b.arrives(b.first) {
		t.Error("mail does not arrive")
	}
	b.alarm("record", "aside")
	b.alarm("what sources did is forgotten", "delete it once you have looked")
	if out, err := b.weir.Cmd(t.Context(), "records", "--limit", "1"); err != nil || !strings.Contains(out, "accepted") {
		t.Errorf("weir records says %q, %v", out, err)
	}
	s.unharmed()
	if out, _ := b.weir.Cmd(t.Context(), "bans", second.String()); strings.Contains(out, "test") && !b.dropped(second) {
		t.Error("a ban is listed that does not hold")
	}
}

// The record store is overwritten while it is in use.
func TestDamagedRecordsLive(t *testing.T) {
	b := newKeyBench(t)
	if !b.arrives(b.first) {
		t.Fatal("the message did not arrive")
	}
	b.cmd("records")
	s := b.survivor()
	b.shell(b.edge, `cd /var/lib/mailweir/mail/records && for f in *.db *.db-wal; do head -c 200000 /dev/urandom | dd of=$f conv=notrunc status=none; done`)
	for range 5 {
		if !b.arrives(b.first) {
			t.Error("mail does not arrive")
		}
	}
	b.Eventually(30*time.Second, "new records are found", func() bool {
		out, err := b.weir.Cmd(t.Context(), "records", "--limit", "1")
		return err == nil && strings.Contains(out, "accepted")
	})
	s.unharmed()
	b.alarm("record", "aside") // while it runs
	b.weir.Stop()
	b.weir.Start()
	if out := b.cmd("records"); !strings.Contains(out, "accepted") {
		t.Errorf("what was written after the damage is lost: %s", out)
	}
	if !b.arrives(b.first) {
		t.Error("mail does not arrive")
	}
}

// Without the capabilities of BPF, nftables does it alone; without any, the mail
// role refuses the convicted at its gate. Both are said aloud.
func TestMissingCapabilitiesLive(t *testing.T) {
	b := newKeyBench(t)
	for _, c := range []struct {
		drop  string
		works bool
		says  []string
	}{
		{"-bpf,-perfmon,-sys_admin", true, []string{"xdp: ", "CAP_BPF", "start it as root"}},
		{"-bpf,-perfmon,-sys_admin,-net_admin", false, []string{"no engine works", "refused by the mail role"}},
	} {
		b.weir.Stop()
		b.shell(b.edge, "nft delete table inet mailweir; rm -rf /var/lib/mailweir /sys/fs/bpf/mailweir")
		b.weir.Under("/usr/bin/setpriv", "--bounding-set="+c.drop, "--inh-caps="+c.drop)
		b.weir.Start()
		s := b.survivor()
		b.alarm(c.says...)
		from := b.source()
		if n := b.guesses(from); n != 25 {
			t.Errorf("%s: %d guesses are answered, want 25", c.drop, n)
		}
		if b.dropped(from) != c.works {
			t.Errorf("%s: dropped in the kernel: %v, want %v", c.drop, !c.works, c.works)
		}
		if !c.works { // whom the kernel drops would try for two minutes
			if conn, r := b.call(from); conn != nil && r.Code == 220 {
				t.Errorf("%s: the convicted is greeted: %v", c.drop, r)
			}
		}
		s.unharmed()
	}
}

// A kernel without BTF is good enough: the program carries its own.
func TestKernelWithoutBTFLive(t *testing.T) {
	b := newKeyBench(t)
	b.weir.Stop()
	b.shell(b.edge, "mount -t tmpfs tmpfs /sys/kernel/btf")
	if out := b.shell(b.edge, "ls /sys/kernel/btf"); out != "" {
		t.Fatalf("BTF is not masked: %s", out)
	}
	b.weir.Start()
	s := b.survivor()
	if !strings.HasSuffix(b.xdp(), " native") {
		t.Errorf("XDP stands on %q", b.xdp())
	}
	from := b.source()
	if n := b.guesses(from); n != 25 || !b.dropped(from) {
		t.Errorf("%d guesses are answered", n)
	}
	if p := b.status().Problems; len(p) != 0 {
		t.Errorf("alarms %q", p)
	}
	s.unharmed()
}

// An interface goes away under the firewall, and comes back.
func TestInterfaceGoneLive(t *testing.T) {
	b := newKeyBench(t)
	b.shell(b.edge, "ip link add spare0 type veth peer name spare1 && ip link set spare0 up && ip link set spare1 up")
	name := strings.Fields(b.xdp())[0]
	b.apply(map[string]string{"firewall.interfaces": fmt.Sprintf(`["%s", "spare0"]`, name)})
	b.well()
	s := b.survivor()
	b.shell(b.edge, "ip link del spare0")
	b.alarm("spare0", "correct firewall.interfaces, or bring it")
	from := b.source()
	if n := b.guesses(from); n != 25 || !b.dropped(from) {
		t.Errorf("%d guesses are answered", n)
	}
	s.unharmed()
	b.shell(b.edge, "ip link add spare0 type veth peer name spare1 && ip link set spare0 up && ip link set spare1 up")
	b.well()
	s.unharmed()
}

// A backend that answers nonsense or nothing: senders hear 451, nobody is banned.
func TestNonsenseBackendLive(t *testing.T) {
	b := newKeyBench(t)
	l, err := b.office.Listen(netip.MustParseAddrPort("192.0.2.54:25"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	nonsense := &nonsense{}
	go nonsense.serve(l)
	b.apply(map[string]string{"backend.office.url": `"smtp://192.0.2.54:25"`})
	s := b.survivor()
	for what, answer := range map[string]string{
		"nothing": "", "an end": "END", "noise": "\x00\xff\x16\x03\x01\r\n", "HTTP": "HTTP/1.1 400 Bad Request\r\n\r\n",
		"no end of line": strings.Repeat("2", 1<<20), "another code": "999 what\r\n",
	} {
		nonsense.say(answer)
		b.Eventually(30*time.Second, "the backend says "+what, func() bool { // it is left alone for a second after each failure
			if code := b.asks(b.rcpt()); code != 451 {
				t.Errorf("%s: a sender hears %d", what, code)
			}
			return nonsense.heard()
		})
	}
	if out := b.cmd("bans"); !strings.Contains(out, "nobody is banned") {
		t.Errorf("bans: %s", out)
	}
	b.alarm("office", "does not answer", "waits at the senders")
	s.unharmed()
	b.apply(nil)
	b.asks(b.rcpt())
	b.well()
}

// nonsense is a backend that says one wrong thing after another.
type nonsense struct {
	mu     sync.Mutex
	answer string
	said   bool // to somebody, since say
}

func (n *nonsense) say(answer string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer, n.said = answer, false
}

func (n *nonsense) heard() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.said
}

func (n *nonsense) next() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = true
	return n.answer
}

func (n *nonsense) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		answer := n.next()
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			if answer == "END" {
				return
			}
			io.WriteString(conn, answer)
			io.Copy(io.Discard, conn)
		}()
	}
}

// Clients that send nonsense, nothing, or a byte a second: each is ended with a
// word or by its time-out, and is not banned for it; others are served meanwhile.
func TestNonsenseClientsLive(t *testing.T) {
	b := newKeyBench(t)
	b.apply(map[string]string{"smtp.timeouts.command": `"2s"`, "smtp.timeouts.session": `"8s"`})
	s := b.survivor()
	noise := bytes.Repeat([]byte("\x00\x01\xfe\xff\x16\x03\x01 \r\n"), 2000)
	ended := make(chan string)
	clients := map[string]func(net.Conn){
		"noise":           func(c net.Conn) { c.Write(noise) },
		"an endless line": func(c net.Conn) { c.Write(bytes.Repeat([]byte("A"), 1<<20)) },
		"nothing":         func(net.Conn) {},
		"a byte a second": func(c net.Conn) {
			for _, one := range "EHLO out.example\r\n" {
				if _, err := c.Write([]byte{byte(one)}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"DATA at once": func(c net.Conn) { c.Write([]byte("DATA\r\nDATA\r\n.\r\n\r\n.\r\nBDAT 99999999999999999999 LAST\r\n")) },
	}
	var sources []netip.Addr
	for what, misbehave := range clients {
		from := b.source()
		sources = append(sources, from)
		c := rawClient(b, from)
		go func() {
			defer c.Close()
			go misbehave(c)
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			said, err := io.ReadAll(c)
			if ne, late := err.(net.Error); late && ne.Timeout() {
				ended <- what + " goes on and on"
			} else if !bytes.HasPrefix(said, []byte("220 ")) {
				ended <- fmt.Sprintf("%s heard %q", what, said)
			} else {
				ended <- ""
			}
		}()
	}
	if !b.arrives(b.first) {
		t.Error("mail does not arrive meanwhile")
	}
	for range clients {
		if why := <-ended; why != "" {
			t.Error(why)
		}
	}
	for _, from := range sources {
		if b.dropped(from) {
			t.Errorf("%v is banned", from)
		}
	}
	s.unharmed()
}

func rawClient(b *keyBench, from netip.Addr) net.Conn {
	b.t.Helper()
	c, err := b.out.DialFrom(b.t.Context(), from, keyEdge)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}
