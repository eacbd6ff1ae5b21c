package firewall

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Order is a ban that a person asks for.
type Order struct {
	Prefix  netip.Prefix
	For     time.Duration // 0: as long as a first automatic ban
	Forever bool          // no end; needs Why (R-BX-19)
	Why     string
}

// OrderError says what is wrong with one of several orders.
type OrderError struct {
	Index int // in the list of orders
	Err   error
}

// Ban makes the bans of all orders, or none: it returns everything that is
// wrong with them. A ban of a prefix that is banned takes the place of the
// former, longer or shorter.
func (l *Ledger) Ban(orders []Order) ([]Ban, []OrderError) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var wrong []OrderError
	bans := make([]Ban, 0, len(orders))
	for i, o := range orders {
		ban, err := l.sentence(o, now)
		if err != nil {
			wrong = append(wrong, OrderError{i, err})
			continue
		}
		bans = append(bans, ban)
	}
	if wrong != nil {
		return nil, wrong
	}
	l.makeRoom(bans)
	frames := make([]byte, 0, len(bans)*frameSize)
	var note uint32
	for i, ban := range bans {
		if i == 0 || orders[i].Why != orders[i-1].Why { // lists mostly say the same in every line
			note = l.note(orders[i].Why)
		}
		r := newRecord(ban, uint64(note))
		l.of(r.prefix).put(r)
		frames = appendBan(frames, r)
	}
	l.store.append(frames)
	return bans, nil
}

// makeRoom has the tables grow once for all of bans.
func (l *Ledger) makeRoom(bans []Ban) {
	four := 0
	for i := range bans {
		if bans[i].Prefix.Addr().Is4() {
			four++
		}
	}
	l.v4.reserve(l.v4.len() + four)
	l.v6.reserve(l.v6.len() + len(bans) - four)
}

func (l *Ledger) sentence(o Order, now time.Time) (Ban, error) {
	p := Canonical(o.Prefix)
	switch {
	case !p.IsValid():
		return Ban{}, fmt.Errorf("%v is no prefix", o.Prefix)
	case o.For < 0:
		return Ban{}, fmt.Errorf("a ban of %v cannot end before it begins", o.For)
	case o.Forever && strings.TrimSpace(o.Why) == "":
		return Ban{}, fmt.Errorf("a ban without an end needs a reason: say why")
	}
	if g, vetoed := l.veto(p); vetoed {
		return Ban{}, VetoError{p, g}
	}
	ban := Ban{Prefix: p, Since: now, Until: o.until(now, l.terms), Reason: Operator}
	if last, ok := l.of(p).get(p); ok {
		ban.Step = last.step // an order is no repeat, and no pardon
	}
	return ban, nil
}

// until is when the ban of an order ends.
func (o Order) until(now time.Time, t Terms) time.Time {
	end := now.Add(t.First)
	if o.For > 0 {
		end = now.Add(o.For)
	}
	if o.Forever || end.After(Forever) {
		return Forever
	}
	return end
}

// Until is when a ban would end that was ordered now.
func (l *Ledger) Until(o Order) time.Time {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return o.until(l.now(), l.terms)
}

// VetoError says that a guard forbids a ban.
type VetoError struct {
	Prefix netip.Prefix
	Guard  Guarded
}

func (e VetoError) Error() string {
	if e.Guard.Guard == GuardAllow {
		return fmt.Sprintf("%v is allowed by the allow entry %v: remove that first (weir allow)", e.Prefix, e.Guard.Prefix)
	}
	if e.Guard.Guard == GuardSession {
		return fmt.Sprintf("%v would hit %v, from where somebody works on this machine by SSH (%s): ban a prefix without it", e.Prefix, e.Guard.Prefix.Addr(), GuardSession)
	}
	return fmt.Sprintf("%v would hit %v, which is never banned (%s): ban a prefix without it", e.Prefix, e.Guard.Prefix, e.Guard.Guard)
}

// note keeps the operator's words once for all bans that have the same.
func (l *Ledger) note(why string) uint32 {
	why = tidy(why)
	if why == "" {
		return 0
	}
	id, fresh := l.notes.add(why)
	if fresh {
		l.store.append(appendNote(nil, id, why))
	}
	return id
}

// tidy makes one line of an operator's words and cuts it at MaxWhy bytes.
func tidy(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > MaxWhy {
		runes := []rune(s)
		s = string(runes[:min(len(runes)-1, MaxWhy)])
	}
	return s
}
