package smtp

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/ref"
	"mailweir/smtp/reply"
)

// from is a connection of a peer.
type from struct {
	net.Conn
	peer string
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr(f.peer), 1025))
}

// noRoute and lastRecord are the least that a Server needs.
type noRoute struct{}

func (noRoute) Route(string) (Route, bool) { return Route{}, false }

type lastRecord struct {
	mu sync.Mutex
	t  Transaction
}

func (r *lastRecord) Announce(context.Context, Transaction) {}
func (r *lastRecord) Record(t Transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t = t
}
func (r *lastRecord) Convicted(ref.Ref, netip.Addr, time.Time, Conviction, bool) {}

type knownIs struct{ addr netip.Addr }

func (k knownIs) Tier(a netip.Addr) Tier {
	if a == k.addr {
		return Known
	}
	return New
}

// Hosts that say nothing keep no new mail out: as soon as places are short, the
// strangers among them go who kept us waiting, and nobody else.
func TestSilentStrangersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &lastRecord{}
		s, err := NewServer(Options{
			Hostname: "mx.example.net", Recorder: records, Tiers: knownIs{addr("192.0.2.99")},
			Policy: Policy{MaxConnections: 10, Router: noRoute{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		dial := func(peer string) *bufio.Reader {
			client, server := net.Pipe()
			t.Cleanup(func() { client.Close() })
			go s.serveConn(from{server, peer})
			in := bufio.NewReader(client)
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			return in
		}
		known := dial("192.0.2.99")
		silent := []*bufio.Reader{dial("203.0.113.1"), dial("203.0.113.2")}
		time.Sleep(2 * shedPatience)
		for _, peer := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5"} {
			dial(peer)
		}
		if n := s.live.len(); n != 8 {
			t.Fatalf("%d connections live while there is room, want all 8", n)
		}
		time.Sleep(shedEvery)
		newcomer := dial("198.51.100.6")
		for _, in := range silent {
			if said, _ := in.ReadString('\n'); !strings.HasPrefix(said, "421 4.7.0 Too busy") {
				t.Errorf("a silent stranger heard %q", said)
			}
		}
		synctest.Wait()
		if n := s.live.len(); n != 7 || known.Buffered()+newcomer.Buffered() != 0 {
			t.Errorf("%d connections live, want the known one and six new", n)
		}
		if records.t.Outcome != Deferred || records.t.Reason != reply.Overload {
			t.Errorf("recorded as %s %s", records.t.Outcome, records.t.Reason)
		}
		for _, c := range s.live.all(true) {
			c.reset()
		}
		synctest.Wait()
	})
}

// suspicious scores whoever comes, so that he is a suspect.
type suspicious struct{}

func (suspicious) Judge(*Facts) Verdict { return Verdict{Action: reply.Pass, Score: SuspectScore} }

// Places run short while the gate finds out who is a suspect: the race detector
// sees whether both look at a session in turns.
func TestShedWhileTheGateJudges(t *testing.T) {
	var clock atomic.Int64
	s, err := NewServer(Options{
		Hostname: "mx.example.net", Recorder: &lastRecord{},
		Clock:  func() time.Time { return time.Unix(clock.Add(2), 0) }, // it is always due
		Policy: Policy{MaxConnections: 100, GreetWait: 20 * time.Millisecond, Router: noRoute{}, Chain: Chain{Peer: []Link{{Name: "suspicious", Judge: suspicious{}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	for i := range 90 {
		client, server := net.Pipe()
		served.Go(func() { s.serveConn(from{server, fmt.Sprintf("203.0.%d.7", i)}) })
		served.Go(func() { bufio.NewReader(client).ReadString('\n'); client.Close() })
	}
	served.Wait()
	if n := s.live.len(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// faulty is a judge with a fault of ours.
type faulty struct{}

func (faulty) Judge(*Facts) Verdict { panic("a fault") }

// A judge that fails before the greeting costs its session nothing, and no other
// (R-BW-E10): what it has to say comes again at RCPT, where it is 451.
func TestGateOutlivesAFault(t *testing.T) {
	s, err := NewServer(Options{
		Hostname: "mx.example.net", Recorder: &lastRecord{}, Log: slog.New(slog.DiscardHandler),
		Policy: Policy{GreetWait: 20 * time.Millisecond, Router: noRoute{}, Chain: Chain{Peer: []Link{{Name: "faulty", Judge: faulty{}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	var served sync.WaitGroup
	served.Go(func() { s.serveConn(from{server, "203.0.113.7"}) })
	if said, err := bufio.NewReader(client).ReadString('\n'); !strings.HasPrefix(said, "220 ") {
		t.Errorf("heard %q, %v", said, err)
	}
	client.Close()
	served.Wait()
}
