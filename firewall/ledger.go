package firewall

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"mailweir/ref"
)

// MaxWhy is how many bytes of an operator's words are kept with a ban.
const MaxWhy = 400

// MaxAutomatic is the longest that any ban lasts that no person ordered
// (R-BX-19), whatever the configuration says.
const MaxAutomatic = 14 * 24 * time.Hour

// Forever is the last moment that the ledger can write. A ban until then is
// one without an end; only a person may order it.
var Forever = time.Unix(1<<32-1, 0)

// Terms say how long bans are. A zero field means its default.
type Terms struct {
	First  time.Duration // first ban: 48 h
	Max    time.Duration // longest automatic ban, at most and by default MaxAutomatic
	Memory time.Duration // how long after its end a ban doubles the next one: 30 days
}

func (t Terms) withDefaults() Terms {
	if t.First <= 0 {
		t.First = 48 * time.Hour
	}
	if t.Max <= 0 || t.Max > MaxAutomatic {
		t.Max = MaxAutomatic
	}
	if t.Memory <= 0 {
		t.Memory = 30 * 24 * time.Hour
	}
	return t
}

// duration of an automatic ban: doubled for each step, never above Max.
func (t Terms) duration(step uint8) time.Duration {
	d := t.First
	for ; step > 0 && d < t.Max; step-- {
		d *= 2
	}
	return min(d, t.Max)
}

// Ledger decides who is banned until when, and keeps it on disk. It holds
// standing bans, and past ones for as long as they double the next. It is safe
// for concurrent use. What it decides is written behind its back by Run: no
// decision waits for a disk.
type Ledger struct {
	now   func() time.Time
	store *store

	mu     sync.RWMutex
	v4     records
	v6     records
	guards *Guards
	// present are the operators at work. They veto what would be banned now, and
	// lift nothing that stands.
	present *Guards
	terms   Terms
	notes   notes
	pace    pace
}

// Sentence is what became of an offence.
type Sentence struct {
	Ban   Ban     // the ban made, or the one that stands already; zero after a veto
	New   bool    // Ban was made now
	Guard Guarded // who vetoed
}

// Convict bans the source at addr. A source that is banned already stays so
// until the end it has: offences of open sessions must not add up.
func (l *Ledger) Convict(addr netip.Addr, reason Reason, ref ref.Ref) Sentence {
	return l.ConvictNetwork(addr, reason, ref, 0)
}

// scope is the prefix to ban for the source at host. IPv6 users own a /64 and
// change addresses within it at will, so all of it goes, unless a guard has
// an address there: then that address alone.
func (l *Ledger) scope(host netip.Prefix) netip.Prefix {
	if host.Addr().Is4() {
		return host
	}
	wide, _ := host.Addr().Prefix(64)
	if l.guards.Touches(wide) || l.present.Touches(wide) {
		return host
	}
	return wide
}

// standing is the ban that covers p longest.
func (l *Ledger) standing(p netip.Prefix, now time.Time) (found record, ok bool) {
	for _, r := range l.of(p).covering(p, nil) {
		if r.activeAt(now) && (!ok || r.until > found.until) {
			found, ok = r, true
		}
	}
	return found, ok
}

// nextStep counts one up when the last ban of p ended less than Memory ago.
// It stops where the byte ends; durations reach their maximum long before.
func (l *Ledger) nextStep(p netip.Prefix, now time.Time) uint8 {
	last, ok := l.of(p).get(p)
	if !ok || now.Sub(last.end()) > l.terms.Memory {
		return 0
	}
	return min(last.step, 254) + 1
}

// Lift lifts the ban of p, every ban inside p, and the automatic bans that
// cover p, and forgets past bans there: who was pardoned starts anew. Orders
// wider than p stay and come back as above: to lift them for one address
// would let in all the others.
func (l *Ledger) Lift(p netip.Prefix) (lifted, above []Ban) {
	p = Canonical(p)
	if !p.IsValid() {
		return nil, nil
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range append(l.of(p).covering(p, nil), l.insideLocked(p)...) {
		if r.reason == Operator && r.prefix.Bits() < p.Bits() {
			if r.activeAt(now) {
				above = append(above, r.ban())
			}
			continue
		}
		if r.activeAt(now) {
			lifted = append(lifted, r.ban())
		}
		l.erase(r.prefix)
	}
	return lifted, above
}

// SetPresent changes from where operators work on this machine. No new ban hits
// one of them, for as long as he is there; a ban that stands goes on, so that
// nobody gets rid of it by a session.
func (l *Ledger) SetPresent(addrs []netip.Addr) {
	list := make([]Guarded, len(addrs))
	for i, a := range addrs {
		list[i] = Guarded{GuardSession, netip.PrefixFrom(a, a.BitLen())}
	}
	g := newGuards(list)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.present = g
}

// veto says who forbids a ban of p.
func (l *Ledger) veto(p netip.Prefix) (Guarded, bool) {
	if guard, vetoed := l.guards.Veto(p); vetoed {
		return guard, true
	}
	return l.present.Veto(p)
}

// Pardon is a standing ban that a guard lifted.
type Pardon struct {
	Ban   Ban
	Guard Guarded
}

// SetGuards changes who is protected, and lifts the standing bans that the
// new guards veto.
func (l *Ledger) SetGuards(g *Guards) []Pardon {
	l.mu.Lock()
	added := g.without(l.guards)
	l.guards = g
	l.mu.Unlock()
	if len(added.starts) == 0 {
		return nil
	}
	var pardons []Pardon
	l.walk(func(r record) {
		if by, vetoed := added.Veto(r.prefix); vetoed {
			pardons = append(pardons, Pardon{r.ban(), by})
		}
	})
	return l.pardon(pardons)
}

// pardon erases what walk found. A ban that ended meanwhile is pardoned too:
// it must not double the next one.
func (l *Ledger) pardon(list []Pardon) []Pardon {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(list, func(p Pardon) bool {
		l.erase(p.Ban.Prefix)
		return !p.Ban.Until.After(now)
	})
}

// SetTerms changes how long later bans are; standing ones keep their end.
func (l *Ledger) SetTerms(t Terms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.terms = t.withDefaults()
}

// Sweep returns the bans that ended since the last call, for the engines to
// drop what they keep of them, and forgets those that ended longer than
// Memory ago.
func (l *Ledger) Sweep() []Ban {
	now := l.now()
	var ended []record
	l.walk(func(r record) {
		if !r.activeAt(now) && (!r.ended || l.forgettable(r, now)) {
			ended = append(ended, r)
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	var bans []Ban
	for _, r := range ended {
		if is, ok := l.of(r.prefix).get(r.prefix); !ok || is.activeAt(now) {
			continue // banned again, or lifted, since it was seen
		}
		if !r.ended {
			bans = append(bans, r.ban())
		}
		if r.ended = true; l.forgettable(r, now) {
			l.of(r.prefix).remove(r.prefix)
		} else {
			l.of(r.prefix).put(r)
		}
	}
	return bans
}

func (l *Ledger) forgettable(r record, now time.Time) bool {
	return now.Sub(r.end()) > l.terms.Memory
}

func (l *Ledger) of(p netip.Prefix) records {
	if p.Addr().Is4() {
		return l.v4
	}
	return l.v6
}

func (l *Ledger) write(r record) {
	l.of(r.prefix).put(r)
	l.store.append(appendBan(nil, r))
}

func (l *Ledger) erase(p netip.Prefix) {
	if l.of(p).remove(p) {
		l.store.append(appendLift(nil, p))
	}
}
