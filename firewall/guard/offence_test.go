package guard

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/ref"
)

func offend(t testing.TB, c *Client, conn *net.TCPConn) Result {
	t.Helper()
	var r Result
	eventually(t, "an answer of guard", func() (done bool) { // 50 ms may pass on a busy machine
		var err error
		r, err = c.Offend(context.Background(), conn, firewall.Harvest, ref.New())
		return err == nil
	})
	return r
}

func TestOffenceIsEnforcedBeforeTheAnswer(t *testing.T) {
	w := newWorld(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	c := g.client()
	dual := w.listen("") // one socket for both families: IPv4 peers come mapped
	for from, want := range map[string]string{"203.0.113.7": "203.0.113.7/32", "2001:db8:bad:7::9": "2001:db8:bad:7::/64"} {
		_, ours := w.visit(dual, from)
		r := offend(t, c, ours)
		if !f.has(want) {
			t.Errorf("%s: guard answers %+v, but the engine holds %v", from, r, f.all())
		}
		if r.Ban.Prefix.String() != want || r.Ban.Reason != firewall.Harvest || time.Until(r.Ban.Until) < 47*time.Hour {
			t.Errorf("%s: answer %+v, want a ban of %s for two days", from, r, want)
		}
	}
}

func TestSecondOffenceOfAConnection(t *testing.T) {
	w := newWorld(t)
	g := newRig(t, one(newFake()), func(c *Config) { c.Policy.Observe = true }) // sessions live on
	_, ours := w.visit(w.listen(edge4), "203.0.113.7")
	first, second := offend(t, g.client(), ours), offend(t, g.client(), ours)
	if first.Outcome != Banned || second.Outcome != Already || second.Ban.Until.Sub(first.Ban.Until).Abs() > time.Second {
		t.Errorf("got %+v, then %+v", first, second)
	}
}

// A guesser may reset his connection in the moment he is convicted.
func TestOffenderWhoResetHisConnection(t *testing.T) {
	w := newWorld(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	theirs, ours := w.visit(w.listen(edge4), "203.0.113.7")
	check(t, theirs.SetLinger(0))
	check(t, theirs.Close())
	eventually(t, "the reset", func() bool {
		_, err := ours.Write([]byte("x"))
		return err != nil
	})
	if r := offend(t, g.client(), ours); r.Outcome != Banned || !f.has("203.0.113.7/32") {
		t.Errorf("got %+v, engine %v", r, f.all())
	}
}

func TestVetoIsNamed(t *testing.T) {
	w := newWorld(t)
	f := newFake()
	g := newRig(t, one(f), func(c *Config) {
		c.Policy.Protect = []Protection{{Name: firewall.GuardForwarder, Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.26/32")}}}
	})
	_, ours := w.visit(w.listen(edge4), "203.0.113.26")
	for range 2 {
		if r := offend(t, g.client(), ours); r.Outcome != Vetoed || r.Guard != firewall.GuardForwarder || len(f.all()) > 0 {
			t.Errorf("got %+v, engine %v", r, f.all())
		}
	}
}

// What is no message of the protocol is answered once, and leaves nothing
// open.
func TestGarbage(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	good := request{reason: firewall.Harvest, ref: 1}.append(nil)
	version, reason, operator, reserved, bigRef := slices.Clone(good), slices.Clone(good), slices.Clone(good), slices.Clone(good), slices.Clone(good)
	version[0], reason[1], operator[1], reserved[5], bigRef[15] = 9, 200, byte(firewall.Operator), 1, 0xff
	type message struct {
		body []byte
		fds  int
	}
	messages := map[string]message{
		"no socket": {good, 0}, "two sockets": {good, 2}, "three": {good, 3}, "253 sockets": {good, 253},
		"long": {append(slices.Clone(good), 0), 1}, "very long": {make([]byte, 60_000), 1}, "short": {good[:15], 1},
		"garbage": {[]byte("GET / HTTP/1.1\r\n"), 1}, "version": {version, 1}, "reason": {reason, 1},
		"the operator's reason": {operator, 1}, "reserved bytes": {reserved, 1}, "no ref": {bigRef, 1},
	}
	round := func() int {
		for name, m := range messages {
			if r := g.send(m.body, m.fds); r.Outcome != Malformed {
				t.Errorf("%s: answer %+v", name, r)
			}
		}
		return openDescriptors(t)
	}
	before := round() // what guard opens once, it has open then
	eventually(t, "all descriptors closed", func() bool { return round() <= before })
	if n := g.s.ledger.Len(); n != 0 {
		t.Errorf("%d bans", n)
	}
}

// A message of no bytes ends the connection, and does not leave behind what came
// with it: a mail process that was taken over could exhaust guard's descriptors
// two by two.
func TestEmptyMessageLeavesNoDescriptors(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	before := openDescriptors(t)
	for range 50 {
		c := must(net.Dial("unixpacket", OffencePath(g.cfg.RunDir)))(t).(*net.UnixConn)
		raw := must(c.SyscallConn())(t)
		check(t, raw.Control(func(fd uintptr) { check(t, sendEmpty(int(fd), 0, 0)) }))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("an empty message is answered with %d bytes", n)
		}
		check(t, c.Close())
	}
	eventually(t, "all descriptors closed", func() bool { return openDescriptors(t) < before+20 })
	if r := g.send([]byte("x"), 1); r.Outcome != Malformed { // and guard still listens
		t.Errorf("got %+v", r)
	}
}

// send sends a message with n descriptors and returns the answer.
func (r *rig) send(body []byte, n int) Result {
	r.t.Helper()
	c := must(net.Dial("unixpacket", OffencePath(r.cfg.RunDir)))(r.t).(*net.UnixConn)
	defer c.Close()
	var oob []byte
	if n > 0 {
		oob = unix.UnixRights(make([]int, n)...) // standard input, n times
	}
	_, _, err := c.WriteMsgUnix(body, oob, nil)
	check(r.t, err)
	b := make([]byte, 2*answerSize)
	got, err := parseResult(b[:must(c.Read(b))(r.t)])
	check(r.t, err)
	return got
}

func openDescriptors(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(list)
}

func TestStrangersAreNotHeard(t *testing.T) {
	w := newWorld(t)
	const mail, other = 60001, 60002
	f := newFake()
	g := newRig(t, one(f), func(c *Config) { c.MailUID = mail })
	openUp(t, g.cfg.RunDir)
	_, ours := w.visit(w.listen(edge4), "203.0.113.7")
	asUser(t, other, func() {
		if _, err := g.client().Offend(context.Background(), ours, firewall.Harvest, 1); err == nil {
			t.Error("user 60002 was heard")
		}
	})
	if _, err := g.client().Offend(context.Background(), ours, firewall.Harvest, 1); err == nil { // root connects, and is no mail
		t.Error("root was heard")
	}
	if n := g.s.ledger.Len(); n != 0 {
		t.Errorf("%d bans", n)
	}
	asUser(t, mail, func() {
		if r := offend(t, g.client(), ours); r.Outcome != Banned {
			t.Errorf("the mail user: %+v", r)
		}
	})
	asUser(t, mail, func() {
		if _, err := net.Dial("unix", OperatorPath(g.cfg.RunDir)); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("the mail user reaches the operator's socket: %v", err)
		}
	})
}

// openUp lets every user through the folders that testing makes for root.
func openUp(t *testing.T, dir string) {
	for ; dir != "/" && dir != os.TempDir(); dir = dir[:max(1, strings.LastIndexByte(dir, '/'))] {
		check(t, os.Chmod(dir, 0o755))
	}
}

func TestFloodOfOffences(t *testing.T) {
	needRoot(t)
	stopped := time.Now()
	g := newRig(t, one(newFake()), func(c *Config) { c.Now = func() time.Time { return stopped } })
	c := g.client()
	fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	outcomes := map[Outcome]int{}
	for range offenceBurst + 100 {
		if r, err := c.offend(context.Background(), fd, request{reason: firewall.Harvest, ref: 1}); err == nil {
			outcomes[r.Outcome]++
		}
	}
	if outcomes[Busy] < 50 || outcomes[NotTCP] > offenceBurst {
		t.Errorf("answers: %v", outcomes)
	}
}

func TestClientFindsARestartedGuard(t *testing.T) {
	w := newWorld(t)
	g := newRig(t, one(newFake()), nil)
	c := g.client()
	l := w.listen(edge4)
	_, first := w.visit(l, "203.0.113.1")
	offend(t, c, first)
	g.end()
	_, second := w.visit(l, "203.0.113.2")
	if r, err := c.Offend(context.Background(), second, firewall.Harvest, 1); err == nil {
		t.Errorf("a guard that is gone answers %+v", r)
	}
	f := newFake()
	g.restart(one(f))
	if r := offend(t, c, second); r.Outcome != Banned || !f.has("203.0.113.2/32") || !f.has("203.0.113.1/32") {
		t.Errorf("got %+v, engine %v", r, f.all())
	}
}

// A guard that hangs costs a session 50 ms, not more.
func TestGuardThatHangs(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	check(t, os.MkdirAll(dir+"/guard", 0o755))
	l := must(net.Listen("unixpacket", OffencePath(dir)))(t)
	defer l.Close()
	_, ours := w.visit(w.listen(edge4), "203.0.113.1")
	c := NewClient(dir)
	if r, err := c.Offend(context.Background(), ours, firewall.Harvest, 1); !isTimeout(err) {
		t.Errorf("got %+v, %v, want a timeout", r, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return err != nil && asNetError(err, &ne) && ne.Timeout()
}

func TestManyOffendersAtOnce(t *testing.T) {
	w := newWorld(t)
	front, back := newFake(), newFake()
	g := newRig(t, []Engine{{Name: "front", Enforcer: front}, {Name: "back", Enforcer: back}}, nil)
	c := g.client()
	l := w.listen(edge4)
	var wg sync.WaitGroup
	for i := range 100 {
		_, ours := w.visit(l, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String())
		wg.Go(func() { offend(t, c, ours) })
	}
	wg.Wait()
	if n := len(front.all()); n != 100 {
		t.Errorf("the first engine holds %d bans, want 100", n)
	}
	eventually(t, "all bans in the second engine", func() bool { return len(back.all()) == 100 })
}

// The sessions of a banned source end (R-BX-15); those of others go on.
func TestSessionsAreReset(t *testing.T) {
	w := newWorld(t)
	g := newRig(t, one(newFake()), nil)
	l4, l6 := w.listen(edge4), w.listen(edge6)
	_, offender := w.visit(l4, "203.0.113.7")
	_, same := w.visit(l4, "203.0.113.7")
	_, other := w.visit(l4, "203.0.113.8")
	_, six := w.visit(l6, "2001:db8:bad:1::5")
	must(g.op.Allow(context.Background(), AllowRequest{Prefix: netip.MustParsePrefix("2001:db8:bad:1::6/128")}))(t)
	_, allowed := w.visit(l6, "2001:db8:bad:1::6")
	offend(t, g.client(), offender)
	must(g.op.Ban(context.Background(), BanRequest{Prefix: netip.MustParsePrefix("2001:db8:bad::/48"), Why: "test"}))(t)
	for _, c := range []*net.TCPConn{offender, same, six} {
		eventually(t, "the end of the session of "+c.RemoteAddr().String(), func() bool { return dead(c) })
	}
	for _, c := range []*net.TCPConn{other, allowed} {
		if dead(c) {
			t.Errorf("the session of %v was reset", c.RemoteAddr())
		}
	}
}

// dead says whether the kernel ended c.
func dead(c *net.TCPConn) bool {
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !isTimeout(err)
}
