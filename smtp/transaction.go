package smtp

import (
	"time"

	"mailweir/ref"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// transaction is what is being gathered between two records: what went before
// MAIL, the envelope, the message. A session always has exactly one; once it is
// recorded, the next begins.
type transaction struct {
	Transaction
	begun time.Time

	from     address.Path
	to       []address.Mailbox // accepted, each once
	route    Route             // of the first accepted recipient
	utf8     bool
	eightBit bool

	asked    int           // RCPT commands
	accepted int           // of them
	scout    *scouting     // of the sender
	verified time.Duration // what was looked up of its message took so long
	domain   SenderDomain
	spf      SPF
	last     refusal
	spoken   bool // the client was told the ref
	brought  bool // some recipient was refused for something else than what the source is
}

// refusal is one that concerns neither a recipient nor a message.
type refusal struct {
	reason reply.Reason
	said   reply.Reply
}

// mostChecks bounds the checks that one record keeps.
const mostChecks = 100

// begin starts the next transaction. Called with s.mu held, or before s is
// shared.
func (s *session) begin() {
	now := s.server.now()
	s.tx = &transaction{begun: now}
	s.tx.Facts = Facts{
		Ref: ref.New(), Session: s.id, Time: now, Policy: s.policy.ID,
		Peer: s.peer, Listener: s.listener, Country: s.country, ASN: s.asn, Tier: s.tier,
		Provider: s.provider, History: s.history,
		RDNS: s.rdns, HELO: s.helo, HELOName: s.heloName, TLS: s.tls, Slips: s.slips,
	}
}

// finish records the current transaction, if there is something to record, and
// begins the next. Called with s.mu held.
func (s *session) finish() {
	t := s.tx
	empty := t.Facts.MailFrom == nil && t.last.reason == "" && t.Outcome == ""
	if empty && s.records > 0 {
		return // what came after the last transaction: QUIT
	}
	s.takeScouted(t)
	t.conclude()
	t.Took = s.server.now().Sub(t.begun)
	s.records++
	if !s.dry {
		s.server.stats.outcome(t.Outcome)
		if w := s.server.opts.Watcher; w != nil {
			t.Told = s.server.order.tell(s.server.now(), func() {
				src := s.source(t)
				src.Itself = !t.brought
				w.Finished(t.moment(t.Took), src, t.Outcome, t.Reason)
			})
		}
		s.server.opts.Recorder.Record(t.Transaction)
	}
	s.begin()
}

// moment is the time of an event, after the beginning of t, as the record tells
// it: to the millisecond, so that a replay of it comes to the same.
func (t *transaction) moment(after time.Duration) time.Time {
	return t.Facts.Time.Truncate(time.Millisecond).Add(after.Truncate(time.Millisecond))
}

// open makes the current transaction that of a MAIL command: its time is that
// of the command. Called with s.mu held.
func (s *session) open(from string) *transaction {
	if s.tx.Facts.MailFrom != nil {
		s.finish() // a MAIL that was refused
	}
	t := s.tx
	t.begun = s.server.now()
	t.Facts.Time, t.Facts.MailFrom = t.begun, &from
	return t
}

// check keeps a verdict. A judge that passes is kept once a transaction, one
// that does not each time, up to a bound.
func (t *transaction) check(name string, v Verdict, took time.Duration) {
	if len(t.Checks) >= mostChecks {
		return
	}
	if v.Action == reply.Pass && v.Score == 0 {
		for _, c := range t.Checks {
			if c.Name == name {
				return
			}
		}
	}
	c := Check{
		Name: name, Action: v.Action, Score: v.Score, Detail: v.Detail,
		Ms: float64(took.Microseconds()) / 1000,
	}
	if v.Action == reply.Log {
		c.Reason = v.Reason
	}
	t.Checks = append(t.Checks, c)
}

// note keeps what a judge of policy said, once however many recipients it says
// it of, under the name of the check that it found to fail.
func (t *transaction) note(name string, v Verdict, took time.Duration) {
	if v.Reason != "" {
		name = reply.Of(v.Reason).Check
	}
	for _, c := range t.Checks {
		if c.Name == name && c.Action == v.Action && c.Score == v.Score && c.Detail == v.Detail {
			return
		}
	}
	t.check(name, v, took)
}

// decide sets outcome and reason unless something weightier was decided: what
// became of the message, or a conviction, is never overwritten by how the
// session ended.
func (t *transaction) decide(o Outcome, r reply.Reason, said reply.Reply) {
	if t.Outcome == "" {
		t.Outcome, t.Reason, t.Reply = o, r, said
	}
}

// conclude decides a transaction whose message never came: by its refusals if
// every recipient was refused, by what closed the session, or else the client
// left (RSET, QUIT, a new HELO, or without a word).
func (t *transaction) conclude() {
	if t.accepted == 0 {
		t.concludeBy(Rejected)
		t.concludeBy(Deferred)
	}
	if l := t.last; l.reason != "" && (t.accepted == 0 || l.said.Code == 421) {
		t.decide(outcomeOf(l.reason, l.said), l.reason, l.said)
	}
	t.decide(Aborted, "", reply.Reply{})
}

func (t *transaction) concludeBy(want Outcome) {
	for _, r := range t.Facts.Rcpts {
		if r.Reason != "" && outcomeOf(r.Reason, r.Reply) == want {
			t.decide(want, r.Reason, r.Reply)
		}
	}
}

// outcomeOf is the outcome of a refusal that nothing followed.
func outcomeOf(r reply.Reason, said reply.Reply) Outcome {
	switch {
	case reply.Of(r).Action == reply.Drop:
		return Dropped
	case said.Permanent():
		return Rejected
	case said.Transient():
		return Deferred
	}
	return Aborted // the client left before it could be told
}
