package smtp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mailweir/smtp/reply"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestLimitsOfASource(t *testing.T) {
	p := Policy{MaxConnections: 1000, PerSource: PerSource{Open: 2, NewPerMinute: 100}}
	now := time.Now()
	for _, c := range []struct {
		name string
		same []string // who counts as one source
		near []string // who shares the network: three times as many in all
	}{
		{"IPv4", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}, []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}},
		{"IPv6", []string{"2001:db8::1", "2001:db8::2", "2001:db8::3"}, []string{"2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1", "2001:db8:0:4::1", "2001:db8:0:5::1"}},
	} {
		l := newLimits()
		var got []reply.Reason
		for _, a := range append(c.same, c.near...) {
			_, refused := l.admit(now, addr(a), New, &p)
			got = append(got, refused)
		}
		want := []reply.Reason{"", "", reply.Concurrency, "", "", "", "", reply.Concurrency}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
		l.release(addr(c.same[0]))
		if _, refused := l.admit(now, addr(c.same[0]), New, &p); refused != "" {
			t.Errorf("%s: after a release: %s", c.name, refused)
		}
	}
}

func TestRateSlides(t *testing.T) {
	p := Policy{MaxConnections: 1000, PerSource: PerSource{Open: 1000, NewPerMinute: 30}}
	l, a, now := newLimits(), addr("192.0.2.1"), time.Now()
	admitted := func() (n int) {
		for range 100 {
			if _, refused := l.admit(now, a, New, &p); refused == "" {
				n++
				l.release(a)
			}
		}
		return n
	}
	if n := admitted(); n != 30 {
		t.Errorf("%d in the first minute, want 30", n)
	}
	now = now.Add(time.Minute + time.Second)
	if n := admitted(); n > 1 {
		t.Errorf("%d right behind a minute of 100 attempts: who hammers gets no new minute for it", n)
	}
	now = now.Add(3 * time.Minute)
	if n := admitted(); n != 30 {
		t.Errorf("%d after a quiet time, want 30", n)
	}
}

func TestLimitsSpareAndBound(t *testing.T) {
	p := Policy{MaxConnections: 4, PerSource: PerSource{Open: 1, NewPerMinute: 100}}
	l, a, now := newLimits(), addr("192.0.2.1"), time.Now()
	for i := range 4 {
		if _, refused := l.admit(now, a, Protected, &p); refused != "" {
			t.Errorf("protected source, connection %d: %s", i, refused)
		}
	}
	if _, refused := l.admit(now, addr("198.51.100.1"), Protected, &p); refused != reply.Overload {
		t.Errorf("over max_connections: %q", refused)
	}
	p.Observe, p.MaxConnections = true, 100
	l = newLimits()
	for range 3 {
		l.admit(now, a, New, &p)
	}
	if would, refused := l.admit(now, a, New, &p); would != reply.Concurrency || refused != "" {
		t.Errorf("observe: would %q, refused %q", would, refused)
	}
}

// A flood of strangers does not keep out who is known.
func TestStrangersLeaveRoom(t *testing.T) {
	p := Policy{MaxConnections: 20, PerSource: PerSource{Open: 100, NewPerMinute: 100}}
	l, now := newLimits(), time.Now()
	full := func(tier Tier) (n int) {
		for ; ; n++ {
			if _, refused := l.admit(now, addr("192.0.2.1"), tier, &p); refused == reply.Overload {
				return n
			}
		}
	}
	if n := full(Suspect) + full(New); n != 18 {
		t.Errorf("strangers took %d places of 20, want 18", n)
	}
	if n := full(Known); n != 2 {
		t.Errorf("who is known found %d places, want 2", n)
	}
}

// Memory is bounded, whoever comes; past the bound nobody is locked out.
func TestLimitsForget(t *testing.T) {
	p := Policy{MaxConnections: 1 << 30, PerSource: PerSource{Open: 10, NewPerMinute: 30}}
	l, now := newLimits(), time.Now()
	for i := range mostSources {
		a := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})
		if _, refused := l.admit(now, a, New, &p); refused != "" {
			t.Fatalf("source %d: %s", i, refused)
		}
		l.release(a)
	}
	if len(l.sources) > mostSources {
		t.Errorf("%d entries", len(l.sources))
	}
	l.admit(now.Add(3*time.Minute), addr("192.0.2.1"), New, &p)
	if len(l.sources) != 2 {
		t.Errorf("%d entries after a quiet time, want those of one source and its network", len(l.sources))
	}
}

func TestUnfiledIsBounded(t *testing.T) {
	u := &unfiled{sources: map[netip.Addr]offence{}}
	now := time.Now()
	for i := range mostUnfiled + 10 {
		u.put(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), offence{at: now})
	}
	if len(u.sources) != mostUnfiled {
		t.Errorf("%d kept", len(u.sources))
	}
	u.put(addr("192.0.2.1"), offence{at: now.Add(unfiledFor + 1)})
	if len(u.sources) != 1 {
		t.Errorf("%d kept after the old ones ended", len(u.sources))
	}
	u.put(addr("10.0.0.1"), offence{at: now})
	if _, ok := u.get(addr("10.0.0.1"), now.Add(unfiledFor+1)); ok {
		t.Error("an old offence is still to be filed")
	}
}

func TestSourceOf(t *testing.T) {
	for a, want := range map[string][2]string{
		"192.0.2.77":        {"192.0.2.77/32", "192.0.2.0/24"},
		"2001:db8:1:2:3::4": {"2001:db8:1:2::/64", "2001:db8:1::/48"},
	} {
		if s, n := sourceOf(addr(a)); s.String() != want[0] || n.String() != want[1] {
			t.Errorf("%s: %v, %v", a, s, n)
		}
	}
}
