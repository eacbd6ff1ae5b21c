package complaint

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// Mailbox stands before the route of the domain in which complaints are taken
// in. Mail for everybody else passes it by. Mail for the mailbox goes on to the
// backend like any other, and is read besides; where the backend does not know
// the mailbox, reports end here, and what is none is refused where it is for
// nobody else, since nobody would ever see it.
type Mailbox struct {
	address string
	router  smtp.Router
	take    Taker
	absent  atomic.Bool // the backend said that it does not know the mailbox
}

// Taker is told of each report that was accepted. It returns, for the record,
// what became of it.
type Taker func(ctx context.Context, env smtp.Envelope, r Report) string

// NewMailbox returns a Mailbox before the routes of router.
func NewMailbox(at address.Mailbox, router smtp.Router, take Taker) *Mailbox {
	return &Mailbox{address: strings.ToLower(at.String()), router: router, take: take}
}

func (m *Mailbox) is(a address.Mailbox) bool { return strings.EqualFold(a.String(), m.address) }

// Route implements smtp.Router.
func (m *Mailbox) Route(domain string) (smtp.Route, bool) {
	r, ok := m.router.Route(domain)
	if ok && strings.HasSuffix(m.address, "@"+domain) {
		r.Oracle, r.Deliverer = known{m, r.Oracle}, reader{m, r.Deliverer}
	}
	return r, ok
}

// known is the oracle that knows the mailbox though the backend does not.
type known struct {
	*Mailbox
	smtp.Oracle
}

// Verify implements smtp.Oracle.
func (k known) Verify(ctx context.Context, to address.Mailbox) smtp.Answer {
	a := k.Oracle.Verify(ctx, to)
	if !k.is(to) || a.State == smtp.Unavailable {
		return a
	}
	k.absent.Store(a.State == smtp.Unknown)
	if a.State == smtp.Unknown {
		return smtp.Answer{State: smtp.Valid, Age: a.Age}
	}
	return a
}

// reader is the deliverer that reads what goes to the mailbox.
type reader struct {
	*Mailbox
	smtp.Deliverer
}

// Deliver implements smtp.Deliverer.
func (d reader) Deliver(ctx context.Context, env smtp.Envelope, body io.ReadSeeker) smtp.Receipt {
	if !slices.ContainsFunc(env.To, d.is) {
		return d.Deliverer.Deliver(ctx, env, body)
	}
	report, err := Read(body)
	onward := env
	if d.absent.Load() {
		onward.To = slices.DeleteFunc(slices.Clone(env.To), d.is)
		if err != nil && len(onward.To) == 0 {
			return smtp.Receipt{Reply: reply.NotAReport.Reply(), Reason: reply.NotAReport}
		}
	}
	got := smtp.Receipt{Reply: reply.Reply{Code: 250}}
	if len(onward.To) > 0 {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return smtp.Receipt{Reply: reply.Internal.Reply(), Reason: reply.Internal, Detail: err.Error()}
		}
		got = d.Deliverer.Deliver(ctx, onward, body)
	}
	switch {
	case got.Reply.Code != 250: // it comes again, and is read then
	case err != nil:
		got.Complaint = err.Error()
	default:
		got.Complaint = d.take(ctx, env, report)
	}
	return got
}
