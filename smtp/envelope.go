package smtp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// mailParams are the parameters of MAIL that matter to us.
type mailParams struct {
	utf8     bool
	eightBit bool
	size     int64 // RFC 1870; 0: not declared
}

// mail takes a MAIL command whose path is in the unquoted form of go-smtp. The
// zero Reply accepts it.
func (s *session) mail(from string, p mailParams) reply.Reply {
	s.mu.Lock()
	t := s.open(from)
	t.utf8, t.eightBit = p.utf8, p.eightBit
	t.Facts.Declared, t.Facts.Limit = p.size, s.policy.MaxMessageSize
	if from != "" {
		m, err := address.ParseUnquoted(from)
		t.from.Mailbox, t.Facts.MailForm = m, formOf(err, m, p.utf8)
		if err == nil {
			*t.Facts.MailFrom = m.String()
		}
	}
	s.mu.Unlock()

	v := s.guard("MAIL", func() Verdict { return s.judge(s.policy.Chain.Mail) })
	if v.passes() {
		s.mu.Lock()
		s.scoutSender(t)
		s.mu.Unlock()
		return reply.Reply{}
	}
	return s.refuseSender(t, v)
}

// refuseSender refuses the MAIL command that t began with.
func (s *session) refuseSender(t *transaction, v Verdict) reply.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.refuse(v)
	s.pending = func(w reply.Reply) { t.decide(outcomeOf(v.Reason, w), v.Reason, w) }
	return said
}

// formOf says what is wrong with an address that was parsed.
func formOf(err error, m address.Mailbox, utf8 bool) Form {
	var bad *address.Error
	switch {
	case err == nil && (utf8 || m.IsASCII()):
		return GoodForm
	case err == nil:
		return Needs8Bit
	case !errors.As(err, &bad):
		return BadSyntax
	case bad.Kind == address.Unqualified:
		return Unqualified
	case bad.Kind == address.EightBit:
		return Needs8Bit
	}
	return BadSyntax
}

// The oracle may take longer for a stranger than for who is known to us:
// Exchange waits five seconds before each no.
const (
	verifyKnown    = 5 * time.Second
	verifyStranger = 15 * time.Second
)

// A recipient that is kept takes about a kilobyte until the record is written,
// and ten thousand clients may each hold a transaction open: without a bound
// they take all memory there is.
const (
	// mostRefused bounds the refused recipients that one transaction keeps;
	// accepted ones are bounded by a judge. The excess hears 452 and comes
	// again, so that who has many for a good reason loses none.
	mostRefused = 100
	// mostRcpts bounds the RCPT commands of a transaction that were not accepted.
	mostRcpts = 2000
)

// rcpt takes a RCPT command whose path is in the unquoted form of go-smtp. The
// zero Reply accepts it.
func (s *session) rcpt(to string) reply.Reply {
	t, i := s.addRecipient(to)
	if t == nil {
		return s.refuseOther(s.excess())
	}
	var box address.Mailbox
	var route Route
	v := s.guard("RCPT", func() Verdict {
		box, route = s.route(t, i)
		if v := s.judge(s.policy.Chain.Rcpt); !v.passes() {
			return v
		}
		c := s.policy.chainFor(box.Domain)
		s.scouted(t, s.peerScout, s.heloScout)
		s.suspect()
		if v := s.look(t, i, c); !v.passes() {
			s.recall(t, i, route, box)
			s.mu.Lock()
			v.Itself = !t.Facts.Rcpts[i].OfSender()
			s.mu.Unlock()
			return v
		}
		if v := s.weigh(t, c, c.Peer, c.HELO).Verdict; !v.passes() {
			s.recall(t, i, route, box)
			v.Itself = true
			return v // the same, whether the recipient exists or not
		}
		s.ask(t, i, route, box)
		if v := s.judge(s.policy.Chain.Oracle); !v.passes() {
			return v
		}
		s.scouted(t, t.scout)
		w := s.weigh(t, c, c.Peer, c.HELO, c.Sender)
		if !w.Verdict.passes() {
			return w.Verdict
		}
		return s.meet(t, i, c, w.Score)
	})
	v = s.watch(t, i, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answerRecipient(t, i, v, box, route)
}

// excess is the verdict on a recipient that there is no room for. It is not
// asked for, so it tells nothing of who exists.
func (s *session) excess() Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.asked-s.tx.accepted > mostRcpts {
		return Verdict{Action: reply.Defer, Reason: reply.TooManyErrors}
	}
	return Verdict{Action: reply.Defer, Reason: reply.TooManyRecipients}
}

// addRecipient makes room in the facts for a recipient; nil: there is none.
func (s *session) addRecipient(to string) (*transaction, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tx
	t.asked++
	if len(t.Facts.Rcpts)-t.accepted >= mostRefused {
		return nil, 0
	}
	t.Facts.Rcpts = append(t.Facts.Rcpts, Recipient{At: s.server.now().Sub(t.begun), To: to})
	return t, len(t.Facts.Rcpts) - 1
}

// route parses recipient i and finds its route. The routing is that of now, not
// of the session's beginning, so that a domain that was just added is served.
func (s *session) route(t *transaction, i int) (address.Mailbox, Route) {
	s.mu.Lock()
	r := &t.Facts.Rcpts[i]
	box, err := address.ParseUnquoted(r.To)
	r.Form = formOf(err, box, t.utf8)
	if err != nil {
		s.mu.Unlock()
		return box, Route{}
	}
	r.To = box.String()
	s.mu.Unlock()

	route, ok := s.server.policy.Load().Router.Route(box.Domain)
	s.mu.Lock()
	defer s.mu.Unlock()
	r = &t.Facts.Rcpts[i]
	r.Trap = s.policy.Traps != nil && s.policy.Traps.Match(r.To)
	if !ok {
		return box, Route{}
	}
	r.Route = route.Name
	if t.utf8 && !route.SMTPUTF8 {
		r.Form = Needs8Bit
	}
	if route.MaxMessageSize > 0 {
		t.Facts.Limit = min(t.Facts.Limit, route.MaxMessageSize)
	}
	return box, route
}

// ask has the oracle of the route say whether recipient i exists.
func (s *session) ask(t *transaction, i int, route Route, box address.Mailbox) {
	wait := verifyStranger
	if !s.tier.Stranger() {
		wait = verifyKnown
	}
	ctx, cancel := context.WithTimeout(s.ctx, wait)
	defer cancel()
	a := Answer{State: Unavailable}
	if route.Oracle != nil {
		a = route.Oracle.Verify(ctx, box)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &t.Facts.Rcpts[i]
	r.Oracle, r.Age, r.Answer = a.State, a.Age, a
}

// recall notes what is known of recipient i without asking anybody.
func (s *session) recall(t *transaction, i int, route Route, box address.Mailbox) {
	known, ok := route.Oracle.(Recaller)
	if !ok {
		return
	}
	a, ok := known.Recall(box)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &t.Facts.Rcpts[i]
	r.Oracle, r.Age = a.State, a.Age
}

// answerRecipient turns the verdict on recipient i into the reply. Called with
// s.mu held.
func (s *session) answerRecipient(t *transaction, i int, v Verdict, box address.Mailbox, route Route) reply.Reply {
	r := &t.Facts.Rcpts[i]
	s.pending = func(w reply.Reply) { t.Facts.Rcpts[i].Reply = w }
	if v.passes() {
		if t.accepted == 0 {
			t.route = route
		}
		t.accepted++
		if !slices.Contains(t.to, box) {
			t.to = append(t.to, box)
		}
		return reply.Reply{}
	}
	r.Reason = v.Reason
	r.Reply = s.refuse(v)
	return r.Reply
}

// malformedSender records a MAIL command that the wire refuses.
func (s *session) malformedSender(arg string, v Verdict) reply.Reply {
	s.mu.Lock()
	t := s.open(argument(arg))
	t.Facts.MailForm = formFor(v.Reason)
	t.check(reply.Of(v.Reason).Check, v, 0)
	s.mu.Unlock()
	return s.refuseSender(t, v)
}

// malformedRecipient records a RCPT command that the wire refuses.
func (s *session) malformedRecipient(arg string, v Verdict) reply.Reply {
	t, i := s.addRecipient(argument(arg))
	if t == nil {
		return s.refuseOther(v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Facts.Rcpts[i].Form = formFor(v.Reason)
	t.check(reply.Of(v.Reason).Check, v, 0)
	return s.answerRecipient(t, i, v, address.Mailbox{}, Route{})
}

func formFor(r reply.Reason) Form {
	switch r {
	case reply.UnqualifiedRecipient:
		return Unqualified
	case reply.UTF8:
		return Needs8Bit
	case reply.SenderSyntax, reply.RecipientSyntax:
		return BadSyntax
	}
	return GoodForm // it was something else: a parameter, the size
}

// argument is what stands behind FROM: or TO:, for a record of a command that
// could not be parsed.
func argument(arg string) string {
	if i := strings.IndexByte(arg, ':'); i >= 0 {
		arg = strings.TrimSpace(arg[i+1:])
	}
	return strings.ToValidUTF8(arg[:min(len(arg), address.MaxPath)], "?")
}
