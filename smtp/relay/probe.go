package relay

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

const (
	probeEvery = time.Hour       // of a random local part, for each domain
	probeWait  = 2 * time.Second // what the first recipient of a domain waits for it
)

// acceptAll is whether a domain's backends take every recipient. Then their yes
// says nothing: recipients are Any, which counts neither for nor against who
// tries them.
type acceptAll struct {
	probed  time.Time // last begun; zero: never
	refused time.Time // last probe that was, as it should be
	running chan struct{}
	on      bool
	since   time.Time
	known   bool // a probe was answered
}

func (d *directory) takesAll() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all.on
}

// tellsApart says that a yes is known to mean something.
func (d *directory) tellsApart() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all.known && !d.all.on
}

// takesAllAfterProbe waits a little for the first probe of a domain, since what
// was just said to exist may mean nothing.
func (d *directory) takesAllAfterProbe(ctx context.Context) bool {
	running := d.probeIfDue()
	d.mu.Lock()
	first := !d.all.known
	d.mu.Unlock()
	if running != nil && first {
		wait, cancel := context.WithTimeout(ctx, probeWait)
		defer cancel()
		select {
		case <-running:
		case <-wait.Done():
		}
	}
	return d.takesAll()
}

// probeIfDue begins a probe at most hourly; what it returns is closed when the
// one under way is over, and nil where none is.
func (d *directory) probeIfDue() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.all.running != nil || !d.all.probed.IsZero() && now.Sub(d.all.probed) < probeEvery {
		return d.all.running
	}
	done := make(chan struct{})
	d.all.probed, d.all.running = now, done
	started := d.life.do(askWait, func(ctx context.Context) {
		d.probeRandom(ctx)
		d.mu.Lock()
		d.all.running = nil
		d.mu.Unlock()
		close(done)
	})
	if !started {
		d.all.running = nil
		return nil
	}
	return done
}

// probeRandom asks for a mailbox that nobody has. Only a yes and a clear no
// change what is known of the domain.
func (d *directory) probeRandom(ctx context.Context) finding {
	f := d.askInOrder(ctx, d.random(), true)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f.meaning {
	case Taken:
		if !d.all.on {
			d.all.since = f.at
			if !d.all.refused.IsZero() { // what was read from disk was good once
				d.cache.forget(d.domain, d.all.refused)
			}
		}
		d.all.on, d.all.known = true, true
	case UnknownUser:
		d.all.on, d.all.known, d.all.refused = false, true, f.at
	}
	return f
}

func (d *directory) random() address.Mailbox {
	return address.Mailbox{Local: "no-" + strings.ToLower(rand.Text()[:20]), Domain: d.domain}
}

// Canary is what a domain's directory says of a recipient that was good and of
// one that cannot exist: a healthy one takes the first and refuses the second.
type Canary struct {
	At     time.Time
	Known  Meaning // "" where no good recipient is known
	Random Meaning
	Words  string // of the answer that is not as it should be
}

// Healthy says whether an unknown user means what it says. Without a known
// recipient nobody can tell.
func (c Canary) Healthy() bool { return c.Known == Taken && c.Random == UnknownUser }

// Broken says that a good recipient is suddenly refused for good.
func (c Canary) Broken() bool {
	return c.Known == UnknownUser || c.Known == Disabled || c.Known == Misconfigured
}

// AcceptAll says that a random recipient is taken.
func (c Canary) AcceptAll() bool { return c.Random == Taken }

// probe asks both, live, beside whatever the cache knows; it changes nothing
// but what is known of accept-all.
func (d *directory) probe(ctx context.Context) Canary {
	c := Canary{At: time.Now()}
	if f, ok := d.askKnown(ctx); ok {
		c.Known = f.meaning
		if f.meaning != Taken {
			c.Words = printable(f.words(), 300)
		}
	}
	f := d.probeRandom(ctx)
	c.Random = f.meaning
	if c.Words == "" && f.meaning != UnknownUser {
		c.Words = printable(f.words(), 300)
	}
	return c
}

// askKnown asks for a recipient that was good; false: none is known. One that is
// refused for good may have been closed since, as somebody could do on purpose
// who owns one, and many may be on one day: the word of another who is taken
// stands, and those before him are in doubt.
func (d *directory) askKnown(ctx context.Context) (finding, bool) {
	const most = 5
	var asked []address.Mailbox
	var found []finding
	for len(asked) < most {
		to, ok := d.cache.good(d.domain, asked...)
		if !ok {
			break
		}
		f := d.askInOrder(ctx, to, true)
		switch {
		case f.meaning == UnknownUser || f.meaning == Disabled:
		case len(asked) == 0:
			return f, true
		case f.meaning == Taken:
			for i := range asked {
				if found[i].meaning == UnknownUser || found[i].meaning == Disabled {
					d.cache.refuse(asked[i], found[i])
				}
			}
			return f, true
		}
		asked, found = append(asked, to), append(found, f)
	}
	if len(asked) == 0 {
		return finding{}, false
	}
	return found[0], true
}

// canaried is the last canary that was sent to tell one answer from another.
type canaried struct {
	at    time.Time
	sings bool
}

// needsCanary says whether an answer for an unknown user is one that is also
// given where a domain, a sender or a host is not let in: Exchange Online's 550
// 5.4.1 "Recipient address rejected: Access denied", or a mere "mailbox
// unavailable" without a code that says more.
func needsCanary(r reply.Reply) bool {
	switch r.Enhanced {
	case reply.Enhanced{5, 1, 1}, reply.Enhanced{5, 1, 10}:
		return false
	case reply.Enhanced{5, 4, 1}:
		return true
	}
	return !clearlyUnknown.MatchString(plain(r.Text))
}

// canarySings says whether a recipient known as good is still taken, as it was
// asked at most an hour ago. Called by the goroutine of a question.
func (d *directory) canarySings() bool {
	d.mu.Lock()
	last := d.canaried
	d.mu.Unlock()
	if !last.at.IsZero() && time.Since(last.at) < probeEvery {
		return last.sings
	}
	ctx, cancel := context.WithTimeout(d.life.ctx, askWait)
	defer cancel()
	f, ok := d.askKnown(ctx)
	if !ok {
		return false // asked again with the next one: it may be known by then
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.canaried = canaried{time.Now(), f.meaning == Taken}
	return d.canaried.sings
}
