package guard

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Who works on this machine by SSH is not banned, by hand or by rule: an
// operator cannot lock himself out. Who has only connected to the SSH port is no
// operator, and must not be safe from bans for it. So a connection counts that
// was there for longer than sshd lets anybody take to log in, the same one all
// the while: to come again before he is thrown out helps nobody. Or one of whose
// address a command of ours was given, by root.
const (
	sshPort     = 22
	loggedIn    = 3 * time.Minute // more than sshd's LoginGraceTime, two minutes
	established = 1 << 1          // of the states of TCP
)

// Session is where the operator who gives an order comes from, as
// SSH_CONNECTION says. The zero value is somebody at the console.
type Session struct {
	Peer netip.Addr `json:"peer,omitzero"`
	Port uint16     `json:"port,omitempty"` // of sshd
}

// connection is one to a port of sshd. The kernel gives each socket a number
// that no other has while it runs.
type connection struct {
	Session
	cookie uint64
}

// present is who works on this machine.
type present struct {
	now func() time.Time

	mu    sync.Mutex
	looks int
	since map[connection]time.Time // of those that are there
	told  map[Session]bool
}

func newPresent(now func() time.Time) *present {
	return &present{now: now, since: map[connection]time.Time{}, told: map[Session]bool{}}
}

// tell takes an operator's word for where he is.
func (p *present) tell(s Session) {
	if !s.Peer.IsValid() || s.Port == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Peer = s.Peer.Unmap().WithZone("")
	p.told[s] = true
}

// look asks the kernel who is connected. Whoever is so at the first look counts:
// guard was started again, and knows not since when.
func (p *present) look() ([]netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ports := []uint16{sshPort}
	for s := range p.told {
		ports = appendNew(ports, s.Port)
	}
	there := map[connection]time.Time{}
	for _, port := range ports {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			connections, err := connectionsTo(family, port)
			if err != nil {
				return nil, err
			}
			for _, c := range connections {
				there[c] = p.sinceWhen(c)
			}
		}
	}
	p.looks++
	p.since = there
	var list []netip.Addr
	still := map[Session]bool{}
	for c, since := range there {
		still[c.Session] = true
		if p.told[c.Session] || p.now().Sub(since) >= loggedIn {
			list = appendNew(list, c.Peer)
		}
	}
	maps.DeleteFunc(p.told, func(s Session, _ bool) bool { return !still[s] })
	return list, nil
}

func (p *present) sinceWhen(c connection) time.Time {
	if since, known := p.since[c]; known || p.looks == 0 {
		return since
	}
	return p.now()
}

// connectionsTo are those to a port of this machine.
func connectionsTo(family uint8, port uint16) (list []connection, err error) {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], established)
	binary.BigEndian.PutUint16(b[diagSocketID:], port)
	err = diagnose(b, func(id socketID) {
		list = append(list, connection{Session{id.peer(family), port}, id.cookie()})
	})
	return list, err
}

// diagnose asks for the sockets that a request of sock_diag(7) means.
func diagnose(request []byte, each func(socketID)) error {
	req := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddRawData(request)
	return req.ExecuteIter(unix.NETLINK_INET_DIAG, unix.SOCK_DIAG_BY_FAMILY, func(msg []byte) bool {
		if len(msg) >= diagReplyID+diagIDSize {
			each(socketID(msg[diagReplyID:]))
		}
		return true
	})
}

// lookForOperators has the ledger know who is at work.
func (s *Server) lookForOperators() {
	list, err := s.present.look()
	if err != nil {
		s.cfg.Log.Warn("who works here by SSH is not known, what was known stays", "error", err)
		return
	}
	s.ledger.SetPresent(list)
}
