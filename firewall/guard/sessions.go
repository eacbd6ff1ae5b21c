package guard

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// graceForMail is how long the sessions of a banned source live on: the mail
// role closes its own first, with the answer it owes on record.
const graceForMail = 300 * time.Millisecond

// sessions resets the connections that banned sources hold open to protected
// ports (R-BX-15): the engines drop their packets, but a session that waits
// would keep its place until it times out.
type sessions struct {
	ports  func() []uint16
	spared func(netip.Addr) bool // allowed, though its prefix is banned
	log    *slog.Logger

	mu      sync.Mutex
	waiting []netip.Prefix
	wake    chan struct{}
}

func newSessions(ports func() []uint16, spared func(netip.Addr) bool, log *slog.Logger) *sessions {
	return &sessions{ports: ports, spared: spared, log: log, wake: make(chan struct{}, 1)}
}

// reset has the sessions of prefix reset soon. It does not wait.
func (s *sessions) reset(prefixes ...netip.Prefix) {
	s.mu.Lock()
	s.waiting = append(s.waiting, prefixes...)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run does it, for all bans of the last moments at once.
func (s *sessions) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		wait(ctx, graceForMail)
		s.mu.Lock()
		banned := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		n, err := s.resetAll(banned)
		if err != nil {
			s.log.Warn("sessions of banned sources could not be reset, they end by their time limits", "error", err)
		}
		if n > 0 {
			s.log.Info("sessions of banned sources were reset", "sessions", n)
		}
	}
}

func (s *sessions) resetAll(banned []netip.Prefix) (n int, err error) {
	open := map[netip.Addr][]session{}
	for _, port := range s.ports() {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			if err := s.find(family, port, open); err != nil {
				return n, err
			}
		}
	}
	for peer := range within(open, banned) {
		if s.spared(peer) {
			continue
		}
		for _, one := range open[peer] {
			if err := destroy(one.family, one.id); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// session is one connection, by the family of its socket.
type session struct {
	family uint8
	id     socketID
}

// within yields those who lie in one of the prefixes. There may be a million of
// these, and seldom more than thousands who have a session.
func within(open map[netip.Addr][]session, prefixes []netip.Prefix) iter.Seq[netip.Addr] {
	lengths := map[int]bool{}
	for _, p := range prefixes {
		lengths[p.Bits()] = true
	}
	peers := map[netip.Prefix][]netip.Addr{}
	for peer := range open {
		for bits := range lengths {
			if p, err := peer.Prefix(bits); err == nil {
				peers[p] = append(peers[p], peer)
			}
		}
	}
	return func(yield func(netip.Addr) bool) {
		for _, p := range prefixes {
			for _, peer := range peers[p] {
				if !yield(peer) {
					return
				}
			}
			delete(peers, p) // who is named twice is reset once
		}
	}
}

// The messages of sock_diag(7), and where in them things are. The id of a
// socket goes back to the kernel as it came.
const (
	diagRequestSize = 56
	diagSocketID    = 8 // in a request
	diagReplyID     = 4 // in a reply
	diagIDSize      = 48
	diagDestination = 20 // of an id: after two ports and the source
	diagCookie      = 40 // after the destination and the interface
	sockDestroy     = 21
)

// liveStates are those of connections: all but TIME_WAIT, CLOSE and LISTEN.
const liveStates = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11 | 1<<12

type socketID [diagIDSize]byte

// find adds the sessions of one family at a port to open.
func (s *sessions) find(family uint8, port uint16, open map[netip.Addr][]session) error {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], liveStates)
	binary.BigEndian.PutUint16(b[diagSocketID:], port)
	err := diagnose(b, func(id socketID) {
		peer := id.peer(family)
		open[peer] = append(open[peer], session{family, id})
	})
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	return nil
}

func (id socketID) peer(family uint8) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(id[diagDestination:]))
	}
	return netip.AddrFrom16([16]byte(id[diagDestination:])).Unmap()
}

// cookie is the kernel's number of the socket.
func (id socketID) cookie() uint64 { return binary.NativeEndian.Uint64(id[diagCookie:]) }

// destroy resets one connection. That it has ended by itself is no error.
func destroy(family uint8, id socketID) error {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], liveStates)
	copy(b[diagSocketID:], id[:])
	req := nl.NewNetlinkRequest(sockDestroy, unix.NLM_F_ACK)
	req.AddRawData(b)
	if _, err := req.Execute(unix.NETLINK_INET_DIAG, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("reset session: %w", err)
	}
	return nil
}

// spare says which addresses keep their sessions under a wider ban.
func spare(ledger *firewall.Ledger) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		return len(ledger.Guards().Covering(netip.PrefixFrom(a, a.BitLen()))) > 0
	}
}
