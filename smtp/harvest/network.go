package harvest

import (
	"bytes"
	"net/netip"
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
	hot     instant
	oldest  int
	tags    []byte // a byte of the hash of each of seen, so that most look-ups end here
	seen    []seen // a ring once it is full
	members []hit  // sources that guessed, distinct
}

func tagOf(h uint64) byte { return byte(h >> 56) }

// find is where a recipient stands in seen; -1: nowhere.
func (n *network) find(h uint64) int {
	tag := tagOf(h)
	for from := 0; ; from++ {
		i := bytes.IndexByte(n.tags[from:], tag)
		if i < 0 {
			return -1
		}
		if from += i; n.seen[from].is(h) {
			return from
		}
	}
}

// see enters a recipient, in place of the oldest where there is no room.
func (n *network) see(now instant, h uint64, k kind) {
	if i := n.find(h); i >= 0 {
		e := &n.seen[i]
		if k.good() || e.kind().good() || since(now, e.at) >= forget {
			*e = newSeen(h, k, now)
		}
		return
	}
	if len(n.seen) < maxOfNetwork {
		n.seen = append(n.seen, newSeen(h, k, now))
		n.tags = append(n.tags, tagOf(h))
		return
	}
	n.seen[n.oldest], n.tags[n.oldest] = newSeen(h, k, now), tagOf(h)
	n.oldest = (n.oldest + 1) % maxOfNetwork
}

// networkKeys are the networks of a source, the narrowest first, and how many.
func networkKeys(k key) (list [2]key, n int) {
	if k.is4() {
		k[15], k[0] = 0, 24 // the first byte tells the kinds apart
		return [2]key{k}, 1
	}
	clear(k[7:])
	wide, wider := k, k
	wider[6] = 0
	wide[15], wider[15] = 56, 48
	return [2]key{wide, wider}, 2
}

// lookAround finds the networks of a source, as far as they are remembered.
func (w *engine) lookAround(e *event) {
	e.keys, e.wide = networkKeys(e.source.key)
	for i, k := range e.keys[:e.wide] {
		e.networks[i], _ = w.networks.get(k)
	}
}

// tellNetworks enters a recipient of a stranger. A network is remembered from
// its first unknown recipient on.
func (w *engine) tellNetworks(e *event, h uint64, k kind) {
	need := rotation{members6, 1, 0}
	if e.source.key.is4() {
		need.members = members4
	}
	var member uint64
	if !k.good() {
		member = keyHash(w.opts.Key, e.source.key)
	}
	for i, n := range e.networks[:e.wide] {
		if n == nil {
			if k.good() {
				continue
			}
			n = new(network)
			e.networks[i] = n
			w.networks.put(e.keys[i], n)
		}
		n.tell(e.now, h, k, member, need, &w.rules)
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
func (w *engine) inHotNetwork(e *event, c counts) bool {
	need := 1
	if e.source.key.is4() {
		need = 2
	}
	if c.unknown-c.valid < need || c.share() < w.rules.SharePerHour {
		return false
	}
	return e.nearHot(hotFor)
}

// nearGuessers says whether the source has a network that guesses.
func (e *event) nearGuessers() bool { return e.nearHot(hour) }

func (e *event) nearHot(within time.Duration) bool {
	for _, n := range e.networks[:e.wide] {
		if n != nil && n.isHot(e.now, within) {
			return true
		}
	}
	return false
}

// befriend notes the networks of a source whose mail was accepted.
func (w *engine) befriend(s *source) {
	list, n := networkKeys(s.key)
	for _, k := range list[:n] {
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
	list, n := networkKeys(sourceKey(a))
	for i, k := range list[:n] {
		if then, ok := w.e.friendly.get(k); ok && sinceGood(at(now), then) < knownFor {
			break
		}
		widest = lengths[i]
	}
	return widest
}
