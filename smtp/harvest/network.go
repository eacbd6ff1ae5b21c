package harvest

import (
	"net/netip"
	"slices"
	"time"
)

const (
	maxNetworks = 1 << 17

	// maxOfNetwork bounds the sample of recipients kept of one network: the
	// latest ones, so that the share is that of late.
	maxOfNetwork = 128

	// membersOf a network must be guessing before it counts as one guesser
	// who rotates: with fewer, each is caught by itself.
	members4, members6 = 5, 4

	// hotFor is how long a network stays hot.
	hotFor = day
)

// network is the evidence against a prefix whose addresses guess in turn (an
// IPv4 /24, an IPv6 /56 or /48), or against a crowd.
type network struct {
	seen    []seen // a ring once it is full
	oldest  int
	members []hit // sources that guessed, distinct
	hot     instant
}

// see enters a recipient, in place of the oldest where there is no room.
func (n *network) see(now instant, h uint64, k kind) {
	for i := range n.seen {
		if e := &n.seen[i]; e.is(h) {
			if k.good() || e.kind().good() || since(now, e.at) >= forget {
				*e = newSeen(h, k, now)
			}
			return
		}
	}
	if len(n.seen) < maxOfNetwork {
		n.seen = append(n.seen, newSeen(h, k, now))
		return
	}
	n.seen[n.oldest] = newSeen(h, k, now)
	n.oldest = (n.oldest + 1) % maxOfNetwork
}

// networkKeys are the networks of a source, the narrowest first.
func networkKeys(k key) []key {
	a := netip.AddrFrom16(k)
	if a.Is4In6() {
		k[15], k[0] = 0, 24 // the first byte tells the kinds apart
		return []key{k}
	}
	p56, _ := a.Prefix(56)
	p48, _ := a.Prefix(48)
	wide, wider := key(p56.Addr().As16()), key(p48.Addr().As16())
	wide[15], wider[15] = 56, 48
	return []key{wide, wider}
}

// tellNetworks enters a recipient of a stranger. A network is remembered from
// its first unknown recipient on.
func (w *engine) tellNetworks(now instant, s *source, h uint64, k kind) {
	need := rotation{members6, 1, 0}
	if s.key.is4() {
		need.members = members4
	}
	for _, nk := range networkKeys(s.key) {
		n, ok := w.networks.get(nk)
		if !ok {
			if k.good() {
				continue
			}
			n = new(network)
			w.networks.put(nk, n)
		}
		n.tell(now, h, k, keyHash(w.opts.Key, s.key), need, &w.rules)
	}
}

// rotation is what makes many sources one guesser: so many of them that guess,
// so many times what one may, at this share at least.
type rotation struct {
	members int
	times   float64
	share   float64
}

// tell enters a recipient that a member named.
func (n *network) tell(now instant, h uint64, k kind, member uint64, need rotation, r *Rules) {
	n.see(now, h, k)
	if k.good() {
		return
	}
	addHit(&n.members, member, now, need.members)
	if !n.isHot(now, hour/2) && n.rotates(now, need, r) {
		n.hot = now
	}
}

func (n *network) isHot(now instant, within time.Duration) bool {
	return n.hot != 0 && since(now, n.hot) < within
}

// rotates says whether the network as a whole breaks the rules of one source.
func (n *network) rotates(now instant, need rotation, r *Rules) bool {
	t := count(n.seen, now)
	for _, l := range r.limits(lenience{}) {
		if l.name == RuleAbsolute || l.count <= 0 {
			continue
		}
		window := instant(l.window / time.Second)
		c, enough := t.of(l.window), min(maxOfNetwork, need.times*l.count)
		if float64(c.unknown) >= enough && c.share() >= max(l.share, need.share) && hitsWithin(n.members, now, window) >= need.members {
			return true
		}
	}
	return false
}

// inHotNetwork says whether a stranger is one of many addresses by which
// somebody guesses in turn. An IPv6 user owns his network, so one unknown
// recipient is enough; IPv4 neighbours are often strangers to each other, so
// that a single typo there condemns nobody. Whoever it is, what he names has to
// look like guesses.
func (w *engine) inHotNetwork(now instant, s *source, c counts) bool {
	need := 1
	if s.key.is4() {
		need = 2
	}
	if c.unknown-c.valid < need || c.share() < w.rules.SharePerHour {
		return false
	}
	return slices.ContainsFunc(networkKeys(s.key), func(k key) bool {
		n, ok := w.networks.get(k)
		return ok && n.isHot(now, hotFor)
	})
}

// nearGuessers says whether a source has a network that guesses.
func (w *engine) nearGuessers(now instant, s *source) bool {
	return slices.ContainsFunc(networkKeys(s.key), func(k key) bool {
		n, ok := w.networks.get(k)
		return ok && n.isHot(now, hour)
	})
}

// befriend notes the networks of a source whose mail was accepted.
func (w *engine) befriend(s *source) {
	for _, k := range networkKeys(s.key) {
		then, _ := w.friendly.get(k)
		w.friendly.put(k, max(then, s.past.accepted))
	}
}

// Widest is the length of the widest prefix around a source in which nobody
// else is known to be good, so that a ban may grow to it: 24 for IPv4, 48 or 56
// for IPv6. 0: there is somebody; 128: there is somebody within the /64.
func (w *Watch) Widest(now time.Time, a netip.Addr) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	lengths := []int{56, 48}
	if a.Unmap().Is4() {
		lengths = []int{24}
	} else if w.e.hasNeighbour(at(now), a) {
		return 128
	}
	widest := 0
	for i, k := range networkKeys(sourceKey(a)) {
		if then, ok := w.e.friendly.get(k); ok && since(at(now), then) < knownFor {
			break
		}
		widest = lengths[i]
	}
	return widest
}
