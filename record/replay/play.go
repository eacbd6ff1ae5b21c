package replay

import (
	"context"
	"slices"

	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// begin is the connection, or what is seen of it: the first moment of a line.
func (p *Player) begin(t *take) {
	if p.dropped(t) {
		return
	}
	if v := t.arrives; v.Action == reply.Drop {
		p.convict(t, smtp.Conviction{Reason: v.Reason, Evidence: smtp.Evidence{Rule: v.Detail}})
	}
	if t.gone {
		return
	}
	if t.told.known && t.told.begin.IsZero() {
		return // a further transaction of a session
	}
	if c, ok := p.watch.Connected(p.now, t.source); ok {
		p.convict(t, c)
	}
}

// dropped says whether the source stands banned by now. Who is in the middle of
// a transaction then is reset.
func (p *Player) dropped(t *take) bool {
	if !t.gone && !p.o.Observe && p.o.Bans.Banned(p.latest, t.source.Addr) {
		t.gone, t.result = true, Result{smtp.Dropped, reply.Banned}
	}
	return t.gone
}

// recipient plays recipient i of a transaction.
func (p *Player) recipient(t *take, i int) {
	r := &t.rcpts[i]
	if d := r.sang; d != nil { // whoever named the recipient, it was so
		p.watch.Canary(d.At, domainOf(r.to), d.Said == smtp.Unknown, sung)
	}
	if p.dropped(t) {
		return
	}
	if r.grey != nil && p.meet(t, r.grey) && !p.o.Observe && !r.grey.observe {
		r.reason = reply.Greylisted
	}
	src := t.source
	src.Itself = r.itself
	oracle := r.oracle
	if r.canary != "" {
		oracle = smtp.Unknown // said the directory, before the canary told that it cannot be believed
	}
	a := p.watch.Recipient(p.now, src, smtp.Recipient{
		To: r.to, Oracle: oracle, Age: r.age, Trap: r.trap, Reason: r.reason,
	}, t.null)
	switch {
	case a.Convicted && r.canary != "" && a.Conviction.Reason == reply.Harvest && !a.Conviction.Spared:
		p.overturn(r, src)
	case a.Convicted:
		p.convict(t, a.Conviction)
	}
	if a.Say != "" && !(a.Say.Spared() && (p.o.Observe || p.chain(r.to).Observe)) {
		r.reason = a.Say
		t.closed = t.closed || a.Say == reply.TooManyUnknown
	}
}

// sung is the detail of an alarm that a canary raised then; in its words it stands
// in no record.
const sung = "a recipient that it is known to have is refused"

// overturn takes back a conviction as the canary did.
func (p *Player) overturn(r *rcpt, src smtp.Source) {
	if r.canary == smtp.Unknown {
		p.watch.Canary(p.now, domainOf(r.to), true, sung)
	}
	p.watch.Overturned(p.now, src, domainOf(r.to))
	r.reason = reply.OracleAway
}

// meet asks the greylist, which knows what the lines before have told, and says
// whether the source has to come back. What the list knew before the first line
// is in what it said then.
func (p *Player) meet(t *take, g *grey) (back bool) {
	if !p.watch.Tier(p.now, t.source.Addr, t.source.Tier).Stranger() {
		return false
	}
	ctx := context.Background()
	a, _ := p.list.Look(ctx, p.now, g.terms, g.contact) // a Local list has no errors
	if then := g.then; a.State == greylist.First && then != nil {
		switch then.State {
		case greylist.Early:
			p.list.Meet(ctx, then.Since, g.terms, g.contact)
		case greylist.Passed:
			p.list.Meet(ctx, p.now.Add(-g.terms.Delay), g.terms, g.contact)
		}
	}
	a, _ = p.list.Meet(ctx, p.now, g.terms, g.contact)
	return a.State != greylist.Passed
}

// convict has the source banned, and ends the transaction.
func (p *Player) convict(t *take, c smtp.Conviction) {
	if c.Spared {
		return
	}
	prefix, until, ok := p.o.Bans.Convict(p.latest, t.source.Addr, c.Reason, t.source.Ref, p.watch.Widest(p.now, t.source.Addr))
	if !ok {
		return
	}
	p.sum.Bans++
	e := Evidence{
		Ref: t.name, Peer: t.source.Addr, Rule: c.Evidence.Rule,
		Unknown: c.Evidence.Unknown, Valid: c.Evidence.Valid, Guesses: c.Evidence.Guesses,
	}
	if c.Evidence.Window > 0 {
		e.Window = c.Evidence.Window.String()
	}
	p.say(p.now, Ban{prefix, record.Time{Time: p.now}, record.Time{Time: until}, c.Reason, e})
	if !p.o.Observe {
		t.gone, t.result = true, Result{smtp.Dropped, c.Reason}
	}
}

// finish is the end of a transaction: what became of it is history.
func (p *Player) finish(t *take) {
	if !p.dropped(t) {
		t.result = p.conclude(t)
		src := t.source
		src.Itself = !t.brought
		p.watch.Finished(p.now, src, t.result.Outcome, t.result.Reason)
	}
	if t.result == t.was || t.gone && t.silent {
		return
	}
	p.sum.Changed++
	p.say(t.time, Change{t.name, record.Time{Time: t.time}, t.result, t.was})
}

// conclude is what becomes of a transaction that nobody dropped, by its sender,
// its recipients, and then its message.
func (p *Player) conclude(t *take) Result {
	if t.sender != "" {
		return t.refused(t.sender)
	}
	accepted := 0
	for i := range t.rcpts {
		if t.rcpts[i].reason == "" {
			accepted++
		}
	}
	switch {
	case len(t.rcpts) == 0:
		return t.was
	case accepted == 0:
		return t.refusals()
	case t.closed:
		return refusedFor(reply.TooManyUnknown)
	case t.taken == 0: // every recipient was refused, so that no message came
		p.sum.MissingFacts++
		return t.was
	case t.message != "":
		return t.refused(t.message)
	}
	return t.was
}

// refusals is the outcome of a transaction without recipient, as the session
// concludes it: what is for good comes before what is for now.
func (t *take) refusals() Result {
	for _, want := range []smtp.Outcome{smtp.Rejected, smtp.Deferred} {
		for i := range t.rcpts {
			if r := t.refused(t.rcpts[i].reason); r.Outcome == want {
				return r
			}
		}
	}
	return t.was
}

// refused is the result of a refusal as policy has it.
func (t *take) refused(why reply.Reason) Result {
	res := refusedFor(why)
	if slices.Contains(t.later, why) {
		res.Outcome = smtp.Deferred
	}
	return res
}

func (r Result) later() bool { return r.Outcome == smtp.Deferred }

// refusedFor is the result of a refusal that nothing followed.
func refusedFor(why reply.Reason) Result {
	row := reply.Of(why)
	if row.Reply.Transient() && row.Reason == why {
		return Result{smtp.Deferred, why}
	}
	return Result{smtp.Rejected, why}
}
