package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// result is what one backend made of a message.
type result struct {
	backend *Backend
	stage   Stage
	meaning Meaning
	reply   reply.Reply // zero where err is set
	err     error

	taken   []address.Mailbox // who got it: all, or with LMTP some
	refused []refused         // recipients it did not take
}

type refused struct {
	to      address.Mailbox
	meaning Meaning
	reply   reply.Reply
}

// begun says whether the backend may have seen data of the message.
func (r result) begun() bool { return r.stage == AtBody || r.stage == AtData }

func (r result) words() string {
	switch {
	case r.err != nil:
		return r.err.Error()
	case r.reply.Code != 0:
		return r.reply.Line()
	}
	return string(r.meaning)
}

// parcel is a message on its way: the envelope, and those of its recipients who
// do not have it yet.
type parcel struct {
	env  smtp.Envelope
	to   []address.Mailbox
	body io.ReadSeeker
	// sent is called when all of body was read: what remains is to wait for
	// the verdict, within the context that it returns.
	sent func() context.Context
}

// courier delivers to the first backend of a domain that can be reached.
type courier struct {
	backends []*Backend
}

// deliver tries the backends in order. The next one is tried only where the
// connection to this one failed before it saw any of the message, so that no
// message is ever with two. It returns the tries as a record shows them.
func (c courier) deliver(ctx context.Context, p parcel) (result, string) {
	var r result
	var tries []string
	for _, b := range c.backends {
		begun := time.Now()
		r = b.deliver(ctx, p)
		now := time.Now()
		b.heard(r.err, answer{now, now.Sub(begun), r.stage, p.to[0].Domain, r.meaning, r.words()})
		tries = append(tries, b.name+": "+printable(r.words(), 400))
		if r.meaning != Away || !isTransport(r.err) || r.begun() || ctx.Err() != nil {
			break
		}
	}
	return r, strings.Join(tries, "; ")
}

// deliver hands the message to b, on an idle connection if there is one. If
// that turns out to be closed, a fresh one is tried, as long as b has not seen
// any of the message.
func (b *Backend) deliver(ctx context.Context, p parcel) result {
	if b.maildir != nil {
		return b.inMaildir(ctx, p)
	}
	release, err := b.sending.lane(ctx, false)
	if err != nil {
		return result{backend: b, stage: AtGreeting, meaning: Throttled, err: err}
	}
	defer release()
	for {
		c, reused, err := b.connection(ctx, b.sending)
		if err != nil {
			return b.failed(err)
		}
		t := &transaction{c: c, b: b, parcel: p}
		r := t.run(ctx)
		b.sending.put(c)
		if r.err == nil || !reused || !isTransport(r.err) || r.begun() || ctx.Err() != nil {
			return r
		}
	}
}

// failed is the result that an error before RCPT makes.
func (b *Backend) failed(err error) result {
	r := result{backend: b, stage: AtGreeting, meaning: Away, err: err}
	var f *failure
	if errors.As(err, &f) {
		r.stage, r.meaning, r.reply = f.stage, f.Meaning(), f.reply
	}
	return r
}

// transaction is one message on one connection.
type transaction struct {
	c      *client
	b      *Backend
	parcel parcel
}

func (t *transaction) run(ctx context.Context) result {
	if r, ok := t.fits(); !ok {
		return r
	}
	r := t.envelope(ctx)
	if r.meaning != Taken || len(r.refused) > 0 {
		return r
	}
	replies, err := t.c.ask(ctx, "DATA")
	switch {
	case err != nil:
		return t.b.failed(&failure{stage: AtData, err: err})
	case replies[0].Code != 354:
		return t.b.failed(&failure{stage: AtData, reply: replies[0]})
	}
	return t.data(ctx)
}

// fits refuses what the server has said it cannot take (RFC 1870, RFC 6531).
func (t *transaction) fits() (result, bool) {
	switch {
	case t.c.ext.size > 0 && t.parcel.env.Size > t.c.ext.size:
		return result{backend: t.b, stage: AtMail, meaning: MessageRefused, reply: reply.Size.Reply()}, false
	case t.parcel.env.SMTPUTF8 && !t.c.ext.smtputf8 && !t.ascii():
		return result{backend: t.b, stage: AtMail, meaning: MessageRefused, reply: reply.UTF8.Reply()}, false
	}
	return result{}, true
}

func (t *transaction) ascii() bool {
	for _, to := range t.parcel.to {
		if !to.IsASCII() {
			return false
		}
	}
	return t.parcel.env.From.Mailbox.IsASCII()
}

func (t *transaction) mail() string {
	var s strings.Builder
	fmt.Fprintf(&s, "MAIL FROM:%s", t.parcel.env.From)
	if t.c.ext.size > 0 && t.parcel.env.Size > 0 {
		fmt.Fprintf(&s, " SIZE=%d", t.parcel.env.Size)
	}
	if t.c.ext.eightBit && (t.parcel.env.EightBit || t.parcel.env.SMTPUTF8) {
		s.WriteString(" BODY=8BITMIME")
	}
	if t.parcel.env.SMTPUTF8 && t.c.ext.smtputf8 {
		s.WriteString(" SMTPUTF8")
	}
	return s.String()
}

// envelope says MAIL and all RCPTs. DATA is never sent along with them: a server
// that takes some recipients would then get a message that is not for sending.
func (t *transaction) envelope(ctx context.Context) result {
	var commands []string
	var stages []Stage
	if t.c.dirty {
		commands, stages = append(commands, "RSET"), append(stages, AtMail)
	}
	commands, stages = append(commands, t.mail()), append(stages, AtMail)
	first := len(commands)
	for _, to := range t.parcel.to {
		commands, stages = append(commands, "RCPT TO:<"+to.String()+">"), append(stages, AtRcpt)
	}
	t.c.dirty = true
	replies, err := t.c.ask(ctx, commands...)
	r := result{backend: t.b, stage: AtRcpt, meaning: Taken}
	for i, said := range replies {
		switch m := MeaningOf(stages[i], said); {
		case said.Code == 421 || stages[i] == AtMail && m != Taken:
			return t.b.failed(&failure{stage: stages[i], reply: said})
		case m != Taken:
			t.c.noes++
			r.refused = append(r.refused, refused{t.parcel.to[i-first], m, said})
		}
	}
	if len(r.refused) == 0 && len(replies) < len(commands) {
		return t.b.failed(&failure{stage: AtRcpt, err: or(err, errNonsense)})
	}
	return r.worst()
}

// worst gives a transaction with refused recipients the meaning that decides it:
// one that is about us comes before those about recipients.
func (r result) worst() result {
	for i, f := range r.refused {
		if i == 0 || f.meaning == Misconfigured || f.meaning == Throttled && r.meaning != Misconfigured {
			r.meaning, r.reply = f.meaning, f.reply
		}
	}
	return r
}
