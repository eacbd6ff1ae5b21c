package mailrole

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// answering is guard as a test wants it to answer.
type answering struct {
	result guard.Result
	err    error
}

func (a *answering) OffendNetwork(context.Context, *net.TCPConn, firewall.Reason, ref.Ref, int) (guard.Result, error) {
	return a.result, a.err
}

func (a *answering) Standing(context.Context, netip.Addr) (firewall.Ban, bool, error) {
	return a.result.Ban, a.result.Outcome == guard.Already, a.err
}

// connection is one from loopback to loopback.
func connection(t *testing.T) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// TestGateStandsInForTheKernel: the gate refuses the convicted exactly where
// the kernel does not drop them, and nobody whom somebody protects.
func TestGateStandsInForTheKernel(t *testing.T) {
	peer := netip.MustParseAddr("127.0.0.1")
	ban := firewall.Ban{Prefix: netip.PrefixFrom(peer, 32), Ref: 7}
	for _, c := range []struct {
		name   string
		answer answering
		ok     bool // Offend has no error
		spared bool
		stands bool
		alarm  bool
	}{
		{"in the kernel", answering{result: guard.Result{Outcome: guard.Banned, Ban: ban}}, true, false, false, false},
		{"already there", answering{result: guard.Result{Outcome: guard.Already, Ban: ban}}, true, false, false, false},
		{"no engine works", answering{result: guard.Result{Outcome: guard.Pending, Ban: ban}}, true, false, true, false},
		{"too many at once", answering{result: guard.Result{Outcome: guard.Busy}}, false, false, true, false},
		{"guard is away", answering{err: errors.New("nobody answers")}, false, false, true, true},
		{"protected", answering{result: guard.Result{Outcome: guard.Vetoed, Guard: firewall.GuardAllow}}, false, true, false, false},
		{"not proven", answering{result: guard.Result{Outcome: guard.NotAccepted}}, false, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			clock := func() time.Time { return now }
			alarms := record.NewLog("mx1", clock)
			o := newOffender(&c.answer, func(netip.Addr) int { return 0 }, clock, alarms)
			err := o.Offend(t.Context(), connection(t), reply.Harvest, 7)
			if (err == nil) != c.ok || errors.Is(err, smtp.ErrSpared) != c.spared {
				t.Errorf("Offend says %v", err)
			}
			s, stands := o.Banned(peer)
			if stands != c.stands || stands && s.Ref != 7 {
				t.Errorf("at the gate: %+v, %v", s, stands)
			}
			if alarm := len(alarms.Alarms()) > 0; alarm != c.alarm {
				t.Errorf("alarms: %q", alarms.Alarms())
			}
			now = now.Add(standIn + time.Second)
			o.calm()
			if _, stands := o.Banned(peer); stands || len(alarms.Alarms()) > 0 {
				t.Error("it stands on after its time")
			}
		})
	}
}

// TestGateForgetsWhomTheKernelTakes: once the engines have a ban, an unban is
// not held up by the gate.
func TestGateForgetsWhomTheKernelTakes(t *testing.T) {
	peer := netip.MustParseAddr("127.0.0.1")
	ban := firewall.Ban{Prefix: netip.PrefixFrom(peer, 32), Ref: 7}
	g := &answering{result: guard.Result{Outcome: guard.Pending, Ban: ban}}
	o := newOffender(g, func(netip.Addr) int { return 0 }, time.Now, record.NewLog("mx1", time.Now))
	conn := connection(t)
	_ = o.Offend(t.Context(), conn, reply.Harvest, 7)
	g.result.Outcome = guard.Banned
	_ = o.Offend(t.Context(), conn, reply.Harvest, 8)
	if _, stands := o.Banned(peer); stands {
		t.Error("it stands at the gate and in the kernel")
	}
}

// TestGateIsBounded: a botnet while guard is away cannot fill the memory.
func TestGateIsBounded(t *testing.T) {
	o := newOffender(&answering{}, func(netip.Addr) int { return 0 }, time.Now, record.NewLog("mx1", time.Now))
	for i := range maxStanding + 10 {
		o.stand(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), 1)
	}
	if len(o.standing) != maxStanding {
		t.Errorf("%d sources stand", len(o.standing))
	}
}

func TestPeerPrefix(t *testing.T) {
	if got := slash64(netip.MustParseAddr("2001:db8:1:2:3::4")); got != netip.MustParsePrefix("2001:db8:1:2::/64") {
		t.Errorf("an IPv6 host counts as %v", got)
	}
	if got := peerPrefix(connection(t)); got != netip.MustParsePrefix("127.0.0.1/32") {
		t.Errorf("an IPv4 host counts as %v", got)
	}
}

// The gate asks guard where the kernel lets banned sources in, and only there;
// it explains where there is a lane, and lets in whom guard says nothing of.
func TestGateAsksWhereTheKernelLetsIn(t *testing.T) {
	peer := netip.MustParseAddr("203.0.113.7")
	until := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	g := &answering{result: guard.Result{Outcome: guard.Already, Ban: firewall.Ban{Prefix: netip.PrefixFrom(peer, 32), Until: until, Ref: 7}}}
	o := newOffender(g, func(netip.Addr) int { return 0 }, time.Now, record.NewLog("mx1", time.Now))
	if _, banned := o.Banned(peer); banned {
		t.Error("guard was asked, though the kernel drops")
	}
	o.alone.Store(true)
	if s, banned := o.Banned(peer); !banned || s.Explain {
		t.Errorf("without engine: %+v, banned %v", s, banned)
	}
	o.alone.Store(false)
	o.lane.Store(true)
	if s, banned := o.Banned(peer); !banned || !s.Explain || !s.Until.Equal(until) || s.Ref != 7 {
		t.Errorf("in the lane: %+v, banned %v", s, banned)
	}
	g.err = errors.New("away")
	if _, banned := o.Banned(peer); banned {
		t.Error("guard is away, and an innocent may be refused")
	}
}
