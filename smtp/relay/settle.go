package relay

import (
	"context"
	"io"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// deliverWait bounds one delivery with all its tries, so that nothing hangs
// however a backend behaves.
const deliverWait = 20 * time.Minute

// deliverer implements smtp.Deliverer for one domain's backends. Around the
// courier it keeps what became of a message until the client has heard it.
type deliverer struct {
	courier  courier
	recheck  *directory
	outcomes *outcomes
	life     *life
}

// Deliver implements smtp.Deliverer. When ctx is done before the backend has
// the whole message, the backend's transaction is given up. When it is done
// later, the client is told to come again, the verdict is waited for in the
// background, and the client's next try is answered with it (smtp-filter §6.5).
func (d *deliverer) Deliver(ctx context.Context, env smtp.Envelope, body io.ReadSeeker) smtp.Receipt {
	c, err := d.outcomes.claim(ctx, env)
	switch {
	case err != nil:
		return away("an earlier try of this message is still at the backend")
	case c.refused != nil:
		defer c.release()
		return c.receipt(c.refused.reason, c.refused.reply, "kept from an earlier try")
	case len(c.rest) == 0:
		defer c.release()
		return c.receipt("", okReply, "taken in an earlier try")
	}
	return d.hand(ctx, env, c, body)
}

// hand runs the delivery in the background and waits for it as long as it
// should.
func (d *deliverer) hand(ctx context.Context, env smtp.Envelope, c *claim, body io.ReadSeeker) smtp.Receipt {
	var receipt smtp.Receipt
	done, sent := make(chan struct{}), make(chan struct{})
	started := d.life.do(deliverWait, func(whole context.Context) {
		defer close(done)
		defer c.release()
		sending, cancel := context.WithCancel(whole)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		r, detail := d.courier.deliver(sending, parcel{env, c.rest, body, func() context.Context {
			close(sent)
			return whole
		}})
		receipt = d.settle(c, r, detail)
	})
	if !started {
		c.release()
		return away("we are stopping")
	}
	select {
	case <-done:
		return receipt
	case <-ctx.Done():
	}
	select { // cancelled before the final dot, or else body is not needed any more
	case <-done:
		return receipt
	case <-sent:
	}
	return away("slower than the client's patience; its verdict will answer the next try")
}

// settle takes in what became of the delivery and makes our answer of it.
func (d *deliverer) settle(c *claim, r result, detail string) smtp.Receipt {
	c.took(r.taken)
	for _, to := range r.taken {
		d.recheck.delivered(to)
	}
	for _, f := range r.refused {
		d.recheck.belied(f, r.stage)
	}
	reason, said := r.verdict()
	if said.Permanent() {
		c.refuse(refusal{said, reason})
	}
	out := c.receipt(reason, said, detail)
	out.Backend = r.backend.name
	return out
}

// receipt is an answer that is kept until it was heard. One that has the client
// come again is different: what is kept then is for that next try.
func (c *claim) receipt(reason reply.Reason, said reply.Reply, detail string) smtp.Receipt {
	r := smtp.Receipt{Reply: said, Reason: reason, Detail: detail}
	if !said.Transient() {
		r.Heard = func(heard bool) {
			if heard {
				c.forget()
			}
		}
	}
	return r
}

func away(detail string) smtp.Receipt {
	return smtp.Receipt{Reply: reply.BackendAway.Reply(), Reason: reply.BackendAway, Detail: detail}
}

// verdict is what the client is told. The place of the spool is here: every
// answer but the first, the recipients' and the message's becomes "spooled".
func (r result) verdict() (reply.Reason, reply.Reply) {
	switch {
	case r.meaning == Taken:
		return "", okReply
	case r.meaning == Misconfigured:
		return reply.MisconfiguredBackend, reply.MisconfiguredBackend.Reply()
	case r.meaning == Throttled:
		return reply.BackendThrottled, reply.BackendThrottled.Reply()
	case r.meaning == Away:
		return reply.BackendAway, reply.BackendAway.Reply()
	case r.stage == AtRcpt:
		return reply.RecipientChanged, reply.RecipientChanged.Reply()
	case r.meaning == MessageRefused:
		return reply.MessageRefused, passOn(r.reply, r.backend)
	}
	return reply.RecipientForNow, forNow(r.reply)
}

// delivered takes in that the backend took a message for to, which is the best
// yes there is.
func (d *directory) delivered(to address.Mailbox) { d.cache.accept(to, time.Now()) }

// belied takes in that the backend refused a recipient at delivery: the retry
// shall hear the truth at RCPT, whatever cache or list say. A refusal of the
// message after its data says nothing of its recipients.
func (d *directory) belied(f refused, at Stage) {
	switch {
	case f.meaning == UnknownUser || f.meaning == Disabled || Classify(f.reply) == UnknownUserClass:
		d.cache.drop(f.to)
	case f.meaning == RecipientForNow || f.meaning == MessageRefused && at == AtRcpt:
		d.cache.recheck(f.to)
	}
}
