package relay

import (
	"context"
	"sync"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// patienceOfStrangers parts the lanes: who gives an answer more time than this
// is a stranger to the session, and leaves room for those who are known.
const patienceOfStrangers = 6 * time.Second

// askWait is how long one question runs, whoever still waits for it: its answer
// is kept for the next who asks.
const askWait = 30 * time.Second

// directory knows the recipients of one domain by asking its backends.
type directory struct {
	domain   string
	backends []*Backend
	cache    *cache
	life     *life

	mu       sync.Mutex
	asking   map[address.Mailbox]*question
	all      acceptAll
	canaried canaried
}

// question is one that is being asked; whoever wants to know the same waits for
// its answer.
type question struct {
	done    chan struct{}
	finding finding
}

func newDirectory(domain string, backends []*Backend, c *cache, l *life) *directory {
	return &directory{
		domain: domain, backends: backends, cache: c, life: l,
		asking: make(map[address.Mailbox]*question),
	}
}

// Verify implements smtp.Oracle.
func (d *directory) Verify(ctx context.Context, to address.Mailbox) smtp.Answer {
	k := d.cache.look(to, time.Now())
	switch {
	case k.yes:
		if k.due {
			d.ask(to, true) // its answer goes to the cache
		}
		return smtp.Answer{State: smtp.Valid, Age: smtp.Cached}
	case k.no:
		return unknown(smtp.Cached)
	case d.takesAll() && !d.away():
		d.probeIfDue()
		return smtp.Answer{State: smtp.Any, Age: smtp.Cached}
	}
	return d.verifyLive(ctx, to)
}

// Recall implements smtp.Recaller: by the cache alone.
func (d *directory) Recall(to address.Mailbox) (smtp.Answer, bool) {
	switch k := d.cache.look(to, time.Now()); {
	case k.yes:
		return smtp.Answer{State: smtp.Valid, Age: smtp.Cached}, true
	case k.no:
		return unknown(smtp.Cached), true
	}
	return smtp.Answer{}, false
}

// verifyLive asks, or waits for who asks already, and makes an answer of it.
func (d *directory) verifyLive(ctx context.Context, to address.Mailbox) smtp.Answer {
	q := d.ask(to, isPatient(ctx))
	select {
	case <-q.done:
	case <-ctx.Done():
		return d.withoutNews(to, smtp.Answer{State: smtp.Unavailable, Reason: reply.OracleAway, Reply: reply.OracleAway.Reply()})
	}
	return d.answer(ctx, to, q.finding)
}

func isPatient(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > patienceOfStrangers
}

// ask begins to ask about to, unless that is under way.
func (d *directory) ask(to address.Mailbox, patient bool) *question {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q, ok := d.asking[to]; ok {
		return q
	}
	q := &question{done: make(chan struct{})}
	d.asking[to] = q
	started := d.life.do(askWait, func(ctx context.Context) {
		q.finding = d.askInOrder(ctx, to, patient)
		d.learn(to, q)
		d.mu.Lock()
		delete(d.asking, to)
		d.mu.Unlock()
		close(q.done)
	})
	if !started { // we are stopping
		q.finding = finding{meaning: Away, err: errStopping}
		delete(d.asking, to)
		close(q.done)
	}
	return q
}

// askInOrder asks the first backend that can be reached.
func (d *directory) askInOrder(ctx context.Context, to address.Mailbox, patient bool) finding {
	var f finding
	for _, b := range d.backends {
		f = b.recipient(ctx, to, patient)
		if f.meaning != Away || !isTransport(f.err) {
			break
		}
	}
	return f
}

// learn takes a finding into the cache. A no that an older yes survives is not
// one yet, nor is one that only a canary can tell from a refusal of us.
func (d *directory) learn(to address.Mailbox, q *question) {
	f := &q.finding
	switch f.meaning {
	case Taken:
		if d.tellsApart() {
			d.cache.accept(to, f.at)
		}
	case UnknownUser:
		if needsCanary(f.reply) && !d.canarySings() {
			f.meaning = Away
			return
		}
		if d.cache.refuse(to, *f) {
			f.meaning = Away
		}
	}
}

// answer makes of a finding what the session needs.
func (d *directory) answer(ctx context.Context, to address.Mailbox, f finding) smtp.Answer {
	switch f.meaning {
	case Taken:
		if d.takesAllAfterProbe(ctx) {
			return smtp.Answer{State: smtp.Any, Age: smtp.Live}
		}
		d.cache.accept(to, f.at)
		return smtp.Answer{State: smtp.Valid, Age: smtp.Live}
	case UnknownUser:
		return unknown(smtp.Live)
	case Disabled:
		return unavailable(reply.MailboxDisabled, reply.MailboxDisabled.Reply())
	case RecipientForNow:
		return unavailable(reply.RecipientForNow, forNow(f.reply))
	case MessageRefused:
		return unavailable(reply.MessageRefused, passOn(f.reply, f.backend))
	case Misconfigured:
		return d.withoutNews(to, unavailable(reply.MisconfiguredBackend, reply.MisconfiguredBackend.Reply()))
	}
	return d.withoutNews(to, unavailable(reply.OracleAway, reply.OracleAway.Reply()))
}

// withoutNews is the answer where the backend could not say: a yes up to a month
// old, else a.
func (d *directory) withoutNews(to address.Mailbox, a smtp.Answer) smtp.Answer {
	if d.cache.look(to, time.Now()).stale {
		return smtp.Answer{State: smtp.Valid, Age: smtp.Cached}
	}
	return a
}

func (d *directory) away() bool {
	for _, b := range d.backends {
		if !b.health.is(StateAway) {
			return false
		}
	}
	return true
}

func unknown(age smtp.Age) smtp.Answer {
	return smtp.Answer{State: smtp.Unknown, Age: age, Reason: reply.UnknownUser, Reply: reply.UnknownUser.Reply()}
}

func unavailable(reason reply.Reason, r reply.Reply) smtp.Answer {
	return smtp.Answer{State: smtp.Unavailable, Age: smtp.Live, Reason: reason, Reply: r}
}
