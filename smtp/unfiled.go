package smtp

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"mailweir/ref"
	"mailweir/smtp/reply"
)

// unfiled keeps the offences that guard did not take, because it was being
// restarted or did not answer in time. The source's next connection shows guard
// whom we mean, once it spoke: the offence is filed again, and it ends.
type unfiled struct {
	mu      sync.Mutex
	sources map[netip.Addr]offence
}

type offence struct {
	reason reply.Reason
	ref    ref.Ref
	at     time.Time
}

const (
	mostUnfiled = 10_000
	unfiledFor  = 24 * time.Hour
)

// put keeps an offence; when there is no room, those that are too old go, or
// else it is forgotten: the source has to be convicted again.
func (u *unfiled) put(a netip.Addr, o offence) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sources) >= mostUnfiled {
		for k, v := range u.sources {
			if o.at.Sub(v.at) > unfiledFor {
				delete(u.sources, k)
			}
		}
	}
	if len(u.sources) < mostUnfiled {
		u.sources[a] = o
	}
}

func (u *unfiled) get(a netip.Addr, now time.Time) (offence, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	o, ok := u.sources[a]
	if ok && now.Sub(o.at) > unfiledFor {
		delete(u.sources, a)
		return offence{}, false
	}
	return o, ok
}

func (u *unfiled) drop(a netip.Addr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sources, a)
}

// owes says whether the source has an offence that guard did not take yet.
func (s *session) owes() bool {
	_, found := s.server.unfiled.get(s.peer, s.server.now())
	return found
}

// fileAgain files what guard did not take before, with the socket of this
// connection. true: there was something, and the reply under way is the last.
func (s *session) fileAgain() bool {
	u := s.server.unfiled
	o, found := u.get(s.peer, s.server.now())
	if !found || s.policy.Observe || s.tier == Protected {
		return false
	}
	err := s.offend(o.reason, o.ref)
	if err == nil || errors.Is(err, ErrSpared) {
		u.drop(s.peer)
	}
	if errors.Is(err, ErrSpared) {
		return false
	}
	s.count(reply.Banned)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.convicted = true
	s.tx.decide(Dropped, reply.Banned, reply.Reply{})
	return true
}
