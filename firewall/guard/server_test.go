package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"mailweir/control"
	"mailweir/firewall"
)

var ctx = context.Background()

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func (r *rig) ban(prefix string) Change {
	r.t.Helper()
	return must(r.op.Ban(ctx, BanRequest{Prefix: pfx(prefix), Why: "test"}))(r.t)
}

func (r *rig) status() Status {
	r.t.Helper()
	return must(r.op.Status(ctx))(r.t)
}

func (r *rig) bans() (list []BanInfo) {
	r.t.Helper()
	check(r.t, r.op.Bans(ctx, netip.Prefix{}, func(b BanInfo) error { list = append(list, b); return nil }))
	return list
}

func TestBanAndUnban(t *testing.T) { // R-BX-17, R-BX-29
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	c := must(g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.0/24"), For: Duration(time.Hour), Why: "botnet"}))(t)
	if c.Count != 1 || len(c.Warnings) != 0 || c.Bans[0].Why != "botnet" || !f.has("203.0.113.0/24") {
		t.Fatalf("got %+v, engine %v", c, f.all())
	}
	got := g.bans()
	if len(got) != 1 || got[0].Why != "botnet" || got[0].Packets != 7 || got[0].Reason != firewall.Operator ||
		got[0].Until.Sub(got[0].Since).Round(time.Minute) != time.Hour {
		t.Errorf("bans: %+v", got)
	}
	e := must(g.op.Explain(ctx, netip.MustParseAddr("203.0.113.9")))(t)
	if !e.Banned || len(e.Bans) != 1 || e.Bans[0].Packets != 7 {
		t.Errorf("why: %+v", e)
	}
	_, err := g.op.Unban(ctx, pfx("203.0.113.9/32"))
	if err == nil || !strings.Contains(err.Error(), "203.0.113.0/24, which an operator banned") {
		t.Errorf("unban of an address inside: %v", err)
	}
	c = must(g.op.Unban(ctx, pfx("203.0.113.0/24")))(t)
	if c.Count != 1 || len(f.all()) != 0 {
		t.Errorf("unban: %+v, engine %v", c, f.all())
	}
	if _, err = g.op.Unban(ctx, pfx("203.0.113.0/24")); control.ExitCode(err) != 1 {
		t.Errorf("unban twice: %v", err)
	}
}

func TestBanForeverNeedsAReason(t *testing.T) { // R-BX-19
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.7/32"), For: Forever}); err == nil {
		t.Error("banned for ever without a reason")
	}
	c := must(g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.7/32"), For: Forever, Why: "court order"}))(t)
	if !c.Bans[0].Permanent {
		t.Errorf("got %+v", c)
	}
}

func TestBanText(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	_, err := g.op.BanText(ctx, strings.NewReader("203.0.113.1\n203.0.113.300\n# all right\n203.0.113.2 99x slip\n127.0.0.1 1h\n203.0.113.3/24\n"), BanRequest{})
	var e *control.Error
	if !errors.As(err, &e) || len(e.Lines) != 3 || !strings.HasPrefix(e.Lines[0], "line 2: ") ||
		!strings.HasPrefix(e.Lines[1], "line 4: ") || !strings.HasPrefix(e.Lines[2], "line 6: ") || len(f.all()) != 0 {
		t.Fatalf("got %v, engine %v", err, f.all())
	}
	_, err = g.op.BanText(ctx, strings.NewReader("203.0.113.1\n127.0.0.1 1h\n"), BanRequest{})
	if !errors.As(err, &e) || len(e.Lines) != 1 || !strings.HasPrefix(e.Lines[0], "line 2: 127.0.0.1/32 would hit") || len(f.all()) != 0 {
		t.Fatalf("got %v, engine %v", err, f.all())
	}
	c := must(g.op.BanText(ctx, strings.NewReader("203.0.113.1 2d many guesses # seen by us\n\n2001:db8::/48 forever for good\n198.18.0.0/15\n"), BanRequest{}))(t)
	if want := []netip.Prefix{pfx("198.18.0.0/15"), pfx("203.0.113.1/32"), pfx("2001:db8::/48")}; c.Count != 3 || !slices.Equal(f.all(), want) {
		t.Fatalf("got %+v, engine %v", c, f.all())
	}
	for _, b := range c.Bans {
		if b.Prefix == pfx("203.0.113.1/32") && b.Until.Sub(b.Since).Round(time.Minute) != 48*time.Hour {
			t.Errorf("got %+v", b)
		}
	}
}

// What is said once goes for the lines that do not say it themselves.
func TestBanTextForAll(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	rest := BanRequest{For: Duration(5 * time.Hour), Why: "the list of today"}
	must(g.op.BanText(ctx, strings.NewReader("203.0.113.1\n203.0.113.2 7h its own\n203.0.113.3 forever\n"), rest))(t)
	for addr, want := range map[string]string{"203.0.113.1": "5h0m0s the list of today", "203.0.113.2": "7h0m0s its own", "203.0.113.3": "forever the list of today"} {
		b := must(g.op.Explain(ctx, netip.MustParseAddr(addr)))(t).Bans[0]
		span := Duration(b.Until.Sub(b.Since).Round(time.Hour)).String()
		if b.Permanent {
			span = "forever"
		}
		if got := span + " " + b.Why; got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

func TestAllow(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	g.ban("203.0.113.7/32")
	g.ban("203.0.112.0/22")
	c := must(g.op.Allow(ctx, AllowRequest{Prefix: pfx("203.0.113.0/28"), Why: "partner", Author: "root"}))(t)
	if c.Count != 1 || c.Lifted[0].Prefix != pfx("203.0.113.7/32") || f.has("203.0.113.7/32") || !f.has("203.0.112.0/22") {
		t.Errorf("allow: %+v, engine %v", c, f.all())
	}
	f.with(func() {
		if !slices.Contains(f.rules.Allow, pfx("203.0.113.0/28")) {
			t.Errorf("the kernel is told to allow %v", f.rules.Allow)
		}
	})
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.9/32"), Why: "x"}); err == nil || !strings.Contains(err.Error(), "allow entry 203.0.113.0/28") {
		t.Errorf("ban of an allowed one: %v", err)
	}
	if e := must(g.op.Explain(ctx, netip.MustParseAddr("203.0.113.9")))(t); e.Banned || len(e.Allow) != 1 || len(e.Bans) != 1 || e.Allow[0].Why != "partner" {
		t.Errorf("why: %+v", e)
	}
	g.restart(one(f))
	list := must(g.op.AllowList(ctx))(t)
	if len(list) != 1 || list[0].Author != "root" || list[0].Time.IsZero() {
		t.Errorf("after a restart: %+v", list)
	}
	must(g.op.Disallow(ctx, pfx("203.0.113.0/28"), TrialTerms{NoTrial: true}))(t)
	if _, err := g.op.Disallow(ctx, pfx("203.0.113.0/28"), TrialTerms{}); control.ExitCode(err) != 1 {
		t.Errorf("removed twice: %v", err)
	}
	g.ban("203.0.113.9/32")
}

func TestAllowExpires(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	must(g.op.Allow(ctx, AllowRequest{Prefix: pfx("203.0.113.7/32"), For: Duration(time.Second)}))(t)
	eventually(t, "the end of the allow entry in the kernel", func() (gone bool) {
		f.with(func() { gone = !slices.Contains(f.rules.Allow, pfx("203.0.113.7/32")) })
		return gone
	})
	eventually(t, "the end of the allow entry in the ledger", func() bool { // which hears of it after the kernel
		_, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.7/32"), Why: "test"})
		return err == nil
	})
}

// Off holds over restarts, and bans made meanwhile are there when it is on.
func TestSwitch(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	g.ban("203.0.113.7/32")
	must(g.op.Switch(ctx, false))(t)
	if len(f.all()) != 0 || f.present {
		t.Fatalf("off, and the engine holds %v", f.all())
	}
	f = newFake()
	g.restart(one(f))
	if st := g.status(); st.Firewall != "off" || len(st.Alarms) != 1 || f.present || f.removed == 0 {
		t.Errorf("after a restart: %+v", st)
	}
	if c := g.ban("203.0.113.8/32"); len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "off") {
		t.Errorf("ban while off: %+v", c)
	}
	must(g.op.Switch(ctx, true))(t)
	if want := []netip.Prefix{pfx("203.0.113.7/32"), pfx("203.0.113.8/32")}; !slices.Equal(f.all(), want) {
		t.Errorf("on, and the engine holds %v", f.all())
	}
	g.restart(one(f))
	if st := g.status(); st.Firewall != "on" || len(st.Alarms) != 0 {
		t.Errorf("on after a restart: %+v", st)
	}
}

func TestSwitchOffWhileGuardIsDown(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	g.ban("203.0.113.7/32")
	g.end()
	check(t, SwitchOff(g.cfg.StateDir, time.Now()))
	f = newFake()
	g.restart(one(f))
	if len(f.all()) != 0 {
		t.Errorf("engine holds %v", f.all())
	}
}

// The ledger is in the engines before Ready is called.
func TestRestoreBeforeReady(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	g.ban("203.0.113.7/32")
	f := newFake()
	f.hold = make(chan struct{})
	g.end()
	g.cfg.Engines = one(f)
	early := make(chan bool, 1)
	go func() {
		time.Sleep(20 * time.Millisecond)
		early <- f.has("203.0.113.7/32")
		close(f.hold)
	}()
	g.start()
	if <-early || !f.has("203.0.113.7/32") {
		t.Errorf("ready, and the engine holds %v", f.all())
	}
}

func TestDetachOnStop(t *testing.T) {
	needRoot(t)
	for _, detach := range []bool{false, true} {
		f := newFake()
		g := newRig(t, one(f), func(c *Config) { c.Policy.DetachOnStop = detach })
		g.ban("203.0.113.7/32")
		g.end()
		if f.has("203.0.113.7/32") == detach || !f.closed {
			t.Errorf("detach_on_stop %v: engine holds %v, closed %v", detach, f.all(), f.closed)
		}
	}
}

func TestReload(t *testing.T) {
	needRoot(t)
	f := newFake()
	next, bad := Policy{Enabled: true, Observe: true, Ports: []uint16{25, 587}, BanTTL: time.Hour}, errors.New("mailweir.toml:3:1: unknown key")
	g := newRig(t, one(f), func(c *Config) { c.Reload = func(context.Context) (Policy, error) { return next, bad } })
	if _, err := g.op.Reload(ctx, TrialTerms{}); err == nil || !strings.Contains(err.Error(), "unknown key") {
		t.Errorf("a bad file: %v", err)
	}
	f.with(func() {
		if f.rules.Observe {
			t.Error("a bad file changed the rules")
		}
	})
	bad = nil
	must(g.op.Reload(ctx, TrialTerms{}))(t)
	f.with(func() {
		if !f.rules.Observe || !slices.Equal(f.rules.Ports, []uint16{25, 587}) {
			t.Errorf("rules: %+v", f.rules)
		}
	})
	if c := g.ban("203.0.113.7/32"); c.Bans[0].Until.Sub(c.Bans[0].Since).Round(time.Minute) != time.Hour {
		t.Errorf("ban_ttl is not that of the new file: %+v", c.Bans[0])
	}
	next.Enabled = false
	must(g.op.Reload(ctx, TrialTerms{}))(t)
	if st := g.status(); st.Firewall != "disabled" || f.present {
		t.Errorf("disabled: %+v", st)
	}
}

// hostsFile is a resolver that tests write.
type hostsFile map[string][]netip.Addr

func (h hostsFile) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	if h[name] == nil {
		return nil, errors.New("no such host")
	}
	return h[name], nil
}

func TestBackendsAreProtectedByName(t *testing.T) {
	needRoot(t)
	f := newFake()
	names := hostsFile{"mail.example.com": {netip.MustParseAddr("203.0.113.25")}}
	g := newRig(t, one(f), func(c *Config) {
		c.Resolver = names
		c.Policy.Protect = []Protection{{Name: firewall.GuardBackend, Hosts: []string{"mail.example.com", "lost.example.com"}}}
	})
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.0/24"), Why: "x"}); err == nil || !strings.Contains(err.Error(), "(backend)") {
		t.Errorf("ban around a backend: %v", err)
	}
	if st := g.status(); !strings.Contains(strings.Join(st.Alarms, "\n"), "lost.example.com") {
		t.Errorf("alarms: %v", st.Alarms)
	}
	g.ban("203.0.113.26/32") // and then the backend moves there
	names["mail.example.com"] = []netip.Addr{netip.MustParseAddr("203.0.113.26")}
	g.s.lookup(ctx)
	check(t, g.s.look(ctx))
	if f.has("203.0.113.26/32") {
		t.Error("the new address of a backend is still banned")
	}
	delete(names, "mail.example.com") // the resolver is away: what is known stays
	g.s.lookup(ctx)
	check(t, g.s.look(ctx))
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("203.0.113.26/32"), Why: "x"}); err == nil {
		t.Error("a backend can be banned while its name cannot be looked up")
	}
}

// Own addresses, gateways and interfaces are taken as they come and go.
func TestNetworkChanges(t *testing.T) {
	newWorld(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	interfaces := func() (list []string) {
		f.with(func() { list = f.rules.Interfaces })
		return list
	}
	if got := interfaces(); !slices.Equal(got, []string{"edge0"}) {
		t.Fatalf("stands on %v, want edge0", got)
	}
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("198.51.100.1/32"), Why: "x"}); err == nil || !strings.Contains(err.Error(), "(own_address)") {
		t.Errorf("ban of ourselves: %v", err)
	}
	g.ban("198.51.100.2/32")
	link := must(netlink.LinkByName("edge0"))(t)
	check(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: []byte{198, 51, 100, 2}}))
	eventually(t, "the gateway's ban lifted", func() bool { return !f.has("198.51.100.2/32") })
	if _, err := g.op.Ban(ctx, BanRequest{Prefix: pfx("198.51.100.2/32"), Why: "x"}); err == nil || !strings.Contains(err.Error(), "(gateway)") {
		t.Errorf("ban of the gateway: %v", err)
	}
	second := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "edge1"}, PeerName: "edge1peer"}
	check(t, netlink.LinkAdd(second))
	t.Cleanup(func() { netlink.LinkDel(second) })
	addAddr(t, "edge1", "192.0.2.1/24")
	eventually(t, "edge1 among the interfaces", func() bool { return slices.Contains(interfaces(), "edge1") })
	check(t, netlink.LinkDel(second))
	eventually(t, "edge1 gone", func() bool { return !slices.Contains(interfaces(), "edge1") })
}

func TestInterfaceThatIsGone(t *testing.T) {
	newWorld(t)
	f := newFake()
	g := newRig(t, one(f), func(c *Config) { c.Policy.Interfaces = []string{"edge0", "eth7"} })
	f.with(func() {
		if !slices.Equal(f.rules.Interfaces, []string{"edge0"}) {
			t.Errorf("stands on %v", f.rules.Interfaces)
		}
	})
	if st := g.status(); len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], "eth7") {
		t.Errorf("alarms: %v", st.Alarms)
	}
}

func TestDamagedAllowList(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	must(g.op.Allow(ctx, AllowRequest{Prefix: pfx("203.0.113.7/32")}))(t)
	g.end()
	path := filepath.Join(g.cfg.StateDir, "guard", "allow.json")
	check(t, os.WriteFile(path, []byte(`[{"prefix":`), 0o600))
	g.restart(one(newFake()))
	if st := g.status(); st.Allow != 0 || len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], "allow list") {
		t.Errorf("status: %+v", st)
	}
}

// A full disk changes nothing in the kernel, is told, and is over when there is
// room again.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	f := newFake()
	g := newRig(t, one(f), func(c *Config) { c.StateDir = dir })
	ballast := filepath.Join(dir, "ballast")
	os.WriteFile(ballast, make([]byte, 1<<20), 0o600)
	for i := range 200 {
		g.ban(netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32).String())
	}
	if n := len(f.all()); n != 200 {
		t.Errorf("%d bans in the kernel, want 200", n)
	}
	if st := g.status(); len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], "not saved") {
		t.Errorf("alarms: %v", st.Alarms)
	}
	if _, err := g.op.Allow(ctx, AllowRequest{Prefix: pfx("192.0.2.1/32")}); err == nil {
		t.Error("an allow entry that was not kept was promised")
	}
	check(t, os.Remove(ballast))
	check(t, g.s.ledger.Sync())
	if st := g.status(); len(st.Alarms) != 0 {
		t.Errorf("alarms: %v", st.Alarms)
	}
	f = newFake()
	g.restart(one(f))
	if n := len(f.all()); n != 200 {
		t.Errorf("%d bans after a restart, want 200", n)
	}
}

func TestTwoGuards(t *testing.T) {
	needRoot(t)
	g := newRig(t, one(newFake()), nil)
	if _, err := New(g.cfg); err == nil || !strings.Contains(err.Error(), "another guard") {
		t.Errorf("a second guard: %v", err)
	}
}

func TestListOfMany(t *testing.T) {
	needRoot(t)
	f := newFake()
	g := newRig(t, one(f), nil)
	const n = 30_000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "10.%d.%d.%d 1h\n", i>>16, i>>8&255, i&255)
	}
	c := must(g.op.BanText(ctx, strings.NewReader(text.String()), BanRequest{}))(t)
	if c.Count != n || len(c.Bans) != 0 || len(f.all()) != n {
		t.Fatalf("banned %d, %d in the answer, engine %d", c.Count, len(c.Bans), len(f.all()))
	}
	if got := g.bans(); len(got) != n {
		t.Errorf("listed %d", len(got))
	}
	var within int
	check(t, g.op.Bans(ctx, pfx("10.0.7.0/24"), func(BanInfo) error { within++; return nil }))
	if within != 256 {
		t.Errorf("%d in a /24, want 256", within)
	}
}
