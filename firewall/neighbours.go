package firewall

import (
	"net/netip"
	"time"

	"mailweir/ref"
)

// How many bans widen to what is around them. An IPv6 user who has one /64 has
// others beside it; IPv4 neighbours are more often strangers to each other.
const (
	hostsToWiden4  = 5 // banned addresses in a /24
	blocksToWiden6 = 4 // banned /64 in a /56, banned /56 in a /48
)

// Above hurry bans within hurryWithin, new ones last hurried: whatever goes on
// then, a mistake in it is over soon.
const (
	hurry       = 200
	hurryWithin = time.Minute
	hurried     = time.Hour
)

// ConvictNetwork is Convict by one who knows the neighbourhood: nobody good is
// known within the source's prefix of widest bits (24 for IPv4; 56 or 48), so
// that the ban may grow to it once enough inside it is banned; 0: it may not;
// 128: somebody good is in the same /64, and the address alone is banned.
func (l *Ledger) ConvictNetwork(addr netip.Addr, reason Reason, ref ref.Ref, widest int) Sentence {
	addr = addr.Unmap().WithZone("")
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	host := netip.PrefixFrom(addr, addr.BitLen())
	if standing, ok := l.standing(host, now); ok {
		return Sentence{Ban: standing.ban()}
	}
	prefix := l.scope(host)
	if widest == host.Bits() {
		prefix = host
	}
	if guard, vetoed := l.veto(prefix); vetoed {
		return Sentence{Guard: guard}
	}
	prefix = l.widen(prefix, now, widest)
	ban := Ban{Prefix: prefix, Since: now, Reason: reason, Ref: ref, Step: l.nextStep(prefix, now)}
	ban.Until = now.Add(l.pace.limit(now, l.terms.duration(ban.Step)))
	l.write(newRecord(ban, uint64(ref)))
	return Sentence{Ban: ban, New: true}
}

// widen is the prefix to ban in place of p, which is about to be banned: the
// widest one that is allowed and has earned it. Nothing that a guard protects,
// an allow entry included, may lie within it.
func (l *Ledger) widen(p netip.Prefix, now time.Time, widest int) netip.Prefix {
	if widest <= 0 {
		return p
	}
	steps := []struct{ from, to, need int }{{64, 56, blocksToWiden6}, {56, 48, blocksToWiden6}}
	if p.Addr().Is4() {
		steps = steps[:0]
		steps = append(steps, struct{ from, to, need int }{32, 24, hostsToWiden4})
	}
	for _, s := range steps {
		wide, err := p.Addr().Prefix(s.to)
		if err != nil || p.Bits() != s.from || s.to < widest || l.of(p).crowd(p)+1 < s.need ||
			l.guards.Touches(wide) || l.present.Touches(wide) || l.bannedBlocks(wide, s.from, now)+1 < s.need {
			return p
		}
		p = wide
	}
	return p
}

// bannedBlocks counts the automatic bans that stand in wide, of prefixes with
// eight bits more: there are 256 to look up, however long the ledger is.
func (l *Ledger) bannedBlocks(wide netip.Prefix, bits int, now time.Time) (n int) {
	addr := wide.Addr().AsSlice()
	for i := range 256 {
		addr[bits/8-1] = byte(i)
		a, _ := netip.AddrFromSlice(addr)
		r, ok := l.of(wide).get(netip.PrefixFrom(a, bits))
		if ok && r.reason != Operator && r.activeAt(now) {
			n++
		}
	}
	return n
}

// pace knows when the last bans were made.
type pace struct {
	made [hurry]time.Time // a ring
	next int
	last time.Time // a ban that was cut short
}

// limit is how long a ban that is made now lasts instead of d.
func (p *pace) limit(now time.Time, d time.Duration) time.Duration {
	oldest := p.made[p.next]
	p.made[p.next] = now
	p.next = (p.next + 1) % hurry
	if !oldest.IsZero() && now.Sub(oldest) < hurryWithin {
		p.last = now
		return min(d, hurried)
	}
	return d
}

// Hurried says that a ban of the last minute was cut short, because too many
// were made.
func (l *Ledger) Hurried() bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.pace.last.IsZero() && now.Sub(l.pace.last) < hurryWithin
}
