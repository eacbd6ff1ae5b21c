package harvest

import (
	"fmt"
	"slices"
	"time"

	"mailweir/smtp"
)

const (
	maxDomains = 1 << 16

	// A domain is under attack when strangers name more unknown recipients a
	// minute than attackRate and attackTimes its average …
	attackRate  = 30
	attackTimes = 6
	// … until they named fewer than half of that for calmFor.
	calmFor = 10 * time.Minute

	// Slow botnets stay below that rate for days. They show by the hour: more
	// than slowRate unknown recipients, and attackTimes the average.
	slowRate = 120

	// typos is up to which part of those that exist unknown recipients are
	// slips of busy people, however many: that is no attack.
	typos = 0.2

	// averageOver is the time constant of the average, in minutes; attackOver
	// that in an attack, or it would soon become the measure of itself, and noise
	// that never ends be an attack for ever.
	averageOver = 24 * 60
	attackOver  = 10 * averageOver

	// newFor is how long a stranger has to be known for while a domain is
	// under attack: a mail server comes again, a bot does not (RFC 5321
	// section 4.5.4.1).
	newFor = 10 * time.Minute

	// waveSources that notify unknown recipients within an hour, or sources of
	// waveNetworks, are a wave of bounces: somebody forges our senders.
	waveSources  = 20
	waveNetworks = 10

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
	minute  flow    // unknown recipients of strangers
	hour    flow    // the same
	served  flow    // recipients that exist, of strangers, by the minute
	taking  flow    // the same by the hour
	average float64 // a minute
	hot     instant // when the rate was last that of an attack
	attack  bool

	bounced  []hit // sources of notifications to unknown recipients
	bouncing []hit // their networks

	taken   instant   // when a recipient was last taken, live
	run     int       // unknown ones since, live
	refused []refusal // known ones since
	broken  bool
	canary  *canary // that counts from the next recipient on
	all     bool    // accept-all, as the canary has it
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

// everywhere stands for all domains together, but for those under attack
// themselves: a botnet that spreads over hundreds of them is one, too.
const everywhere = ""

// guessed enters an unknown recipient of a stranger, and raises the alarm when
// the domain, or all of them, are under attack by it.
func (w *engine) guessed(now instant, d *domain) {
	w.guessedAt(now, d)
	if !d.attack {
		w.guessedAt(now, w.all)
	}
}

func (w *engine) guessedAt(now instant, d *domain) {
	d.turn(now)
	d.minute.Now++
	d.hour.Now++
	if d.attack && d.over(now, 0.5) {
		d.hot = now
	}
	if !d.attack && d.over(now, 1) {
		d.attack, d.hot = true, now
		w.alarm(now, "under_attack", d.name, fmt.Sprintf("%.0f unknown recipients a minute and %.0f an hour by strangers, %.1f a minute on average%s",
			d.minute.rate(now, aMinute), d.hour.rate(now, anHour), d.average, d.where()))
	}
}

// over says whether strangers name more unknown recipients than part of what is
// an attack.
func (d *domain) over(now instant, part float64) bool {
	inMinute, inHour := d.minute.rate(now, aMinute), d.hour.rate(now, anHour)
	return inMinute > part*max(attackRate, attackTimes*d.average) && inMinute >= typos*d.served.rate(now, aMinute) ||
		inHour > part*max(slowRate, 60*attackTimes*d.average) && inHour >= typos*d.taking.rate(now, anHour)
}

// where is what is said of a domain beside its name.
func (d *domain) where() string {
	if d.name == everywhere {
		return ", in all domains together"
	}
	return ""
}

// good enters a recipient that exists.
func (d *domain) good(now instant) {
	d.turn(now)
	d.served.Now++
	d.taking.Now++
}

// turn ends the minutes and hours that are over.
func (d *domain) turn(now instant) {
	over := float64(averageOver)
	if d.attack {
		over = attackOver
	}
	gone := d.minute.turn(now, aMinute)
	for i := range min(gone, 10*averageOver) { // away for longer: the rest makes no difference
		named := 0
		if i == 0 {
			named = d.minute.ended
		}
		d.average += (float64(named) - d.average) / over
	}
	d.hour.turn(now, anHour)
	d.served.turn(now, aMinute)
	d.taking.turn(now, anHour)
}

// flow counts what happens within a span of time that slides.
type flow struct {
	Begun       instant // the running span
	Now, Before uint32  // in it, and in the one before
	ended       int     // in the last one that turn ended
}

// turn ends the spans that are over and says how many there were.
func (f *flow) turn(now, span instant) int {
	if f.Begun == 0 || f.Begun > now && f.Begun-now > outOfOrder {
		*f = flow{Begun: now}
	}
	if now-min(now, f.Begun) < span { // most often, and before the division
		return 0
	}
	gone := (now - f.Begun) / span
	f.ended = int(f.Now)
	f.Before, f.Now = f.Now, 0
	if gone > 1 {
		f.Before = 0
	}
	f.Begun += gone * span
	return int(gone)
}

// rate is the number of the last span, as if those of the one before had come
// evenly.
func (f *flow) rate(now, span instant) float64 {
	left := float64(span - min(span, now-min(now, f.Begun)))
	return float64(f.Now) + float64(f.Before)*left/float64(span)
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
func (d *domain) bounces(now instant, source, network uint64) bool {
	addHit(&d.bounced, source, now, waveSources)
	addHit(&d.bouncing, network, now, waveNetworks)
	return hitsWithin(d.bounced, now, anHour) >= waveSources || hitsWithin(d.bouncing, now, anHour) >= waveNetworks
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
	d.refused = slices.DeleteFunc(d.refused, func(e refusal) bool { return since(now, e.at) >= hour })
	d.refused = d.refused[max(0, len(d.refused)-maxRefused):]
	others := slices.ContainsFunc(d.refused, func(e refusal) bool { return e.source != source })
	if len(d.refused) < brokenKnown || !others {
		return
	}
	d.refused = nil
	w.sick(now, d, fmt.Sprintf("%d recipients that were taken before are unknown now, and none is taken", brokenKnown))
}

// canary is what a domain's directory said when it was asked for a recipient that
// it is known to have.
type canary struct {
	at     time.Time
	broken bool
	detail string
}

// hear takes in the canary that came since the recipient before. One that found
// the directory broken counts nothing where mail was taken since.
func (w *engine) hear(e *event) {
	d := e.domain
	c := d.canary
	if c == nil {
		return
	}
	d.canary = nil
	w.heard = &smtp.Directory{Said: smtp.Valid, At: c.at}
	switch {
	case !c.broken:
		d.takes(max(d.taken, at(c.at)))
	default:
		w.heard.Said = smtp.Unknown
		if d.taken <= at(c.at) {
			w.sick(e.now, d, c.detail)
		}
	}
}

// isBroken says whether the directory is, by all that is known of it.
func (d *domain) isBroken() bool {
	if c := d.canary; c != nil && (!c.broken || d.taken <= at(c.at)) {
		return c.broken
	}
	return d.broken
}

// sick stops the counting for a domain.
func (w *engine) sick(now instant, d *domain, detail string) {
	if d.broken {
		return
	}
	d.broken = true
	w.alarm(now, "directory_broken", d.name, detail)
}
