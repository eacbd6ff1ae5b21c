package harvest

import (
	"slices"
	"strings"
	"time"

	"mailweir/smtp"
)

// maxUndo bounds the convictions that can still be taken back: the canary
// answers within seconds.
const maxUndo = 256

// undo is what a conviction spent of a source.
type undo struct {
	spent    []seen // as they were
	past     past
	ring     uint8
	offences *offences
	guesses  []string
}

// keepUndo keeps what the conviction under way is about to spend.
func (w *engine) keepUndo(s *source) {
	u := &undo{past: s.past, ring: s.ring, offences: s.offences, guesses: s.evidence()}
	for _, e := range s.seen() {
		if k := e.kind(); k == unknown || k == unknownNull {
			u.spent = append(u.spent, e)
		}
	}
	w.undos.put(s.key, u)
}

// Overturned implements smtp.Watcher: the source has its trust back. Of its
// guesses count again those that were named while the directory of the domain
// was known to be well; what it said since is no fact, and forgotten.
func (w *Watch) Overturned(now time.Time, src smtp.Source, domain string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e.overturn(w.e.keyOf(at(now), src.Addr), w.e.domain(strings.ToLower(domain)).taken)
}

// overturn takes back the last conviction of a source by what was said after
// well.
func (w *engine) overturn(k key, well instant) {
	u, _ := w.undos.get(k)
	s := w.sources.find(k)
	if u == nil || s == nil {
		return
	}
	w.undos.put(k, nil)
	void := map[uint64]bool{}
	var kept []seen
	for _, e := range s.seen() {
		i := slices.IndexFunc(u.spent, func(was seen) bool { return was.low&^kindBits == e.low&^kindBits && was.high == e.high })
		switch {
		case i < 0 || e.kind() != spent:
			kept = append(kept, e)
		case u.spent[i].at <= well:
			kept = append(kept, u.spent[i])
		default:
			void[e.id()] = true
		}
	}
	s.remember(kept)
	s.past = u.past.with(s.past, len(void))
	w.sources.move(s, max(u.ring, s.ring))
	s.offences = u.offences.until(well, s.offences)
	for _, g := range u.guesses {
		if !void[idOf(w.hash(g))] {
			s.guessed(g)
		}
	}
}

// id is what is kept of a recipient's hash, idOf that of a hash.
func (e *seen) id() uint64 { return uint64(e.high)<<32 | uint64(e.low&^kindBits) }
func idOf(h uint64) uint64 { return h &^ kindBits }

// with is a past from before a conviction that was none, with what came since,
// and without so many unknown recipients that are no fact.
func (p past) with(since past, void int) past {
	p.accepted = max(p.accepted, since.accepted)
	p.days = max(p.days, since.days)
	p.met = p.met || since.met
	p.mails = uint16(min(1<<16-2, int(p.mails)+int(since.mails)))
	p.good = uint16(min(1<<16-2, int(p.good)+int(since.good)))
	p.bad = uint16(min(1<<16-2, max(0, int(p.bad)+int(since.bad)-void)))
	return p
}

// until is what a source had to its name before a conviction that was none,
// without what rests on what the directory said after well.
func (o *offences) until(well instant, since *offences) *offences {
	if o == nil {
		return since
	}
	o.Strikes = slices.DeleteFunc(o.Strikes, func(t instant) bool { return t > well })
	o.Hot = slices.DeleteFunc(o.Hot, func(h hit) bool { return h.At > well })
	if since != nil {
		o.Lost, o.Mark, o.Slowed = since.Lost, since.Mark, since.Slowed
	}
	return o
}
