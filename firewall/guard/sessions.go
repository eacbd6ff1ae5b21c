package guard

import (
	"context"
	"encoding/binary"
	"fmt"
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
	waiting map[netip.Prefix]bool
	wake    chan struct{}
}

func newSessions(ports func() []uint16, spared func(netip.Addr) bool, log *slog.Logger) *sessions {
	return &sessions{ports: ports, spared: spared, log: log, waiting: map[netip.Prefix]bool{}, wake: make(chan struct{}, 1)}
}

// reset has the sessions of prefix reset soon. It does not wait.
func (s *sessions) reset(prefixes ...netip.Prefix) {
	s.mu.Lock()
	for _, p := range prefixes {
		s.waiting[p] = true
	}
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
		s.waiting = map[netip.Prefix]bool{}
		s.mu.Unlock()
		n, err := s.resetAll(newPrefixSet(banned))
		if err != nil {
			s.log.Warn("sessions of banned sources could not be reset, they end by their time limits", "error", err)
		}
		if n > 0 {
			s.log.Info("sessions of banned sources were reset", "sessions", n)
		}
	}
}

func (s *sessions) resetAll(banned prefixSet) (n int, err error) {
	for _, port := range s.ports() {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			found, err := s.find(family, port, banned)
			if err != nil {
				return n, err
			}
			for _, id := range found {
				if err := destroy(family, id); err != nil {
					return n, err
				}
				n++
			}
		}
	}
	return n, nil
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

func (s *sessions) find(family uint8, port uint16, banned prefixSet) (found []socketID, err error) {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], liveStates)
	binary.BigEndian.PutUint16(b[diagSocketID:], port)
	err = diagnose(b, func(id socketID) {
		if peer := id.peer(family); banned.has(peer) && !s.spared(peer) {
			found = append(found, id)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return found, nil
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

// prefixSet answers whether an address lies in one of many prefixes.
type prefixSet struct {
	prefixes map[netip.Prefix]bool
	lengths  []int
}

func newPrefixSet(prefixes map[netip.Prefix]bool) prefixSet {
	s := prefixSet{prefixes: prefixes}
	for p := range prefixes {
		s.lengths = appendNew(s.lengths, p.Bits())
	}
	return s
}

func (s prefixSet) has(a netip.Addr) bool {
	for _, bits := range s.lengths {
		if p, err := a.Prefix(bits); err == nil && s.prefixes[p] {
			return true
		}
	}
	return false
}

// spare says which addresses keep their sessions under a wider ban.
func spare(ledger *firewall.Ledger) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		return len(ledger.Guards().Covering(netip.PrefixFrom(a, a.BitLen()))) > 0
	}
}
