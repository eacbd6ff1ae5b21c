package harvest

import (
	"fmt"
	"slices"
	"time"
)

const (
	maxDomains = 1 << 16

	// A domain is under attack when strangers name more unknown recipients a
	// minute than attackRate and attackTimes its average …
	attackRate  = 30
	attackTimes = 6
	// … until they named fewer than half of that for calmFor.
	calmFor = 10 * time.Minute

	// averageOver is the time constant of the average, in minutes.
	averageOver = 24 * 60

	// newFor is how long a stranger has to be known for while a domain is
	// under attack: a mail server comes again, a bot does not (RFC 5321
	// section 4.5.4.1).
	newFor = 10 * time.Minute

	// waveSources different sources that notify unknown recipients within an
	// hour are a wave of bounces: somebody forges our senders.
	waveSources = 20

	// brokenKnown recipients that were valid within brokenWithin, refused to
	// different sources within an hour while none is taken, are a directory
	// that is broken.
	brokenKnown  = 3
	brokenWithin = week
	maxRefused   = 64

	// doubtAfter unknown recipients in a row, asked for live, a canary is due.
	doubtAfter = 5
)

// domain is what is measured of one domain.
type domain struct {
	name    string
	minute  instant // when the running minute began
	now     int     // unknown recipients of strangers in it
	before  int     // and in the one before
	average float64 // a minute
	hot     instant // when the rate was last that of an attack
	attack  bool

	bounced []hit // sources of notifications to unknown recipients

	taken   instant   // when a recipient was last taken, live
	run     int       // unknown ones since, live
	refused []refusal // known ones since
	broken  bool
	all     bool // accept-all, as the canary has it
}

// refusal is a recipient known to exist that was refused.
type refusal struct {
	recipient, source uint64
	at                instant
}

func (w *engine) domain(name string) *domain {
	d, ok := w.domains.get(name)
	if !ok {
		d = &domain{name: name}
		w.domains.put(name, d)
	}
	return d
}

// guessed enters an unknown recipient of a stranger, and raises the alarm when
// the domain is under attack by it.
func (w *engine) guessed(now instant, d *domain) {
	d.turn(now)
	d.now++
	rate, limit := d.rate(now), d.limit()
	if rate*2 > limit && d.attack || rate > limit {
		d.hot = now
	}
	if rate > limit && !d.attack {
		d.attack = true
		w.alarm(now, "under_attack", d.name, fmt.Sprintf("%.0f unknown recipients a minute by strangers, %.1f on average", rate, d.average))
	}
}

func (d *domain) limit() float64 { return max(attackRate, attackTimes*d.average) }

// rate is the number of the last minute, as if those of the minute before had
// come evenly.
func (d *domain) rate(now instant) float64 {
	left := 60 - float64(min(60, now-min(now, d.minute)))
	return float64(d.now) + float64(d.before)*left/60
}

// turn ends the minutes that are over. The average stands still in an attack,
// or the attack would become the measure of itself.
func (d *domain) turn(now instant) {
	if d.minute == 0 {
		d.minute = now
	}
	for i := 0; now >= d.minute+60; i++ {
		if !d.attack {
			d.average += (float64(d.now) - d.average) / averageOver
		}
		d.before, d.now = d.now, 0
		d.minute += 60
		if i > averageOver { // away for a day: the rest makes no difference
			d.minute = now
		}
	}
}

// attacked says whether the domain is under attack.
func (d *domain) attacked(now instant) bool {
	if d.attack && since(now, d.hot) >= calmFor {
		d.attack = false
	}
	return d.attack
}

// bounces enters a notification to an unknown recipient; true: it is one of a
// wave.
func (d *domain) bounces(now instant, source uint64) bool {
	addHit(&d.bounced, source, now, waveSources)
	return hitsWithin(d.bounced, now, anHour) >= waveSources
}

// takes enters a recipient that a backend took when asked: the directory works.
func (d *domain) takes(now instant) {
	d.taken, d.refused, d.broken, d.run = now, nil, false, 0
}

// doubt enters an unknown recipient that was asked for live, and asks for a
// canary where nothing else has been said for a while.
func (w *engine) doubt(d *domain) {
	d.run++
	if d.run%doubtAfter == 0 && w.opts.Doubt != nil {
		w.opts.Doubt(d.name)
	}
}

// refuses enters a recipient that was valid lately and is not now, and says
// whether the directory is broken: it is when several are refused to different
// sources in a row. One mailbox that was closed, or an old list of one sender,
// is not.
func (w *engine) refuses(now instant, d *domain, h, source uint64) {
	if d.broken || slices.ContainsFunc(d.refused, func(e refusal) bool { return e.recipient == h }) {
		return
	}
	d.refused = append(d.refused, refusal{h, source, now})
	d.refused = slices.DeleteFunc(d.refused, func(e refusal) bool { return now-min(now, e.at) >= anHour })
	d.refused = d.refused[max(0, len(d.refused)-maxRefused):]
	others := slices.ContainsFunc(d.refused, func(e refusal) bool { return e.source != source })
	if len(d.refused) < brokenKnown || !others {
		return
	}
	d.refused = nil
	w.sick(now, d, fmt.Sprintf("%d recipients that were taken before are unknown now, and none is taken", brokenKnown))
}

// sick stops the counting for a domain.
func (w *engine) sick(now instant, d *domain, detail string) {
	if d.broken {
		return
	}
	d.broken = true
	w.alarm(now, "directory_broken", d.name, detail)
}
