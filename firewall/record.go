package firewall

import (
	"time"

	"mailweir/ref"
)

// newRecord rounds times to seconds, the end up: a ban is never shorter than
// was said.
func newRecord(b Ban, mark uint64) record {
	until := b.Until
	if until.Nanosecond() > 0 {
		until = until.Add(time.Second)
	}
	return record{
		prefix: b.Prefix, reason: b.Reason, step: b.Step, mark: mark,
		since: seconds(b.Since), until: seconds(until),
	}
}

// seconds is t as it is kept: 1970 to 2106.
func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), Forever.Unix()))
}

func (r record) ban() Ban {
	b := Ban{
		Prefix: r.prefix, Since: time.Unix(int64(r.since), 0), Until: r.end(),
		Reason: r.reason, Step: r.step,
	}
	if r.reason != Operator {
		b.Ref = ref.Ref(r.mark)
	}
	return b
}

func (r record) end() time.Time { return time.Unix(int64(r.until), 0) }

func (r record) activeAt(now time.Time) bool { return now.Before(r.end()) }

// clamped corrects what a clock that was wrong wrote, or now reads: a ban
// cannot have begun later than now, and none that no person ordered lasts
// longer than most from now on.
func (r record) clamped(now time.Time, most time.Duration) record {
	today := seconds(now)
	forever := r.until == seconds(Forever)
	if r.since > today {
		if !forever && r.until > r.since {
			r.until = today + (r.until - r.since)
		}
		r.since = today
	}
	if r.reason != Operator {
		r.until = min(r.until, seconds(now.Add(most)))
	}
	return r
}

// notes are the words of operators, each kept once.
type notes struct {
	text map[uint32]string
	ids  map[string]uint32
	last uint32
}

func newNotes() notes { return notes{text: map[uint32]string{}, ids: map[string]uint32{}} }

func (n *notes) add(text string) (id uint32, fresh bool) {
	if id, have := n.ids[text]; have {
		return id, false
	}
	n.last++
	n.set(n.last, text)
	return n.last, true
}

func (n *notes) set(id uint32, text string) {
	n.text[id], n.ids[text] = text, id
	n.last = max(n.last, id)
}

// keep forgets every note that is not wanted.
func (n *notes) keep(wanted map[uint32]bool) {
	for id, text := range n.text {
		if !wanted[id] {
			delete(n.text, id)
			delete(n.ids, text)
		}
	}
}
