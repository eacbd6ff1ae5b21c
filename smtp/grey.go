package smtp

import (
	"context"
	"strings"
	"time"

	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// Greylist knows who was here before; *greylist.List is one. With an error
// nobody is put off.
type Greylist interface {
	// Meet takes in a contact.
	Meet(ctx context.Context, now time.Time, t greylist.Terms, c greylist.Contact) (greylist.Answer, error)
	// Look says what Meet would, and changes nothing.
	Look(ctx context.Context, now time.Time, t greylist.Terms, c greylist.Contact) (greylist.Answer, error)
}

// Greylister is the judge of who has to come back. Like any other it is pure:
// it judges Recipient.Grey, which is asked for only where it says so.
type Greylister interface {
	Judge
	// Asks says whether the last recipient is one to ask the greylist about, and
	// on which terms. The score is that of the judges of policy.
	Asks(f *Facts, score float64) (greylist.Terms, bool)
}

// Contact is the last recipient of f as the greylist knows contacts.
func (f *Facts) Contact() greylist.Contact {
	r := &f.Rcpts[len(f.Rcpts)-1]
	c := greylist.Contact{Recipient: r.To}
	if f.MailFrom != nil {
		c.Sender = *f.MailFrom
	}
	id := greylist.Identity{Peer: f.Peer, Name: f.OwnName()}
	if f.SPF == "pass" && !f.SPFWide {
		id.SPFDomain = c.Sender[strings.LastIndexByte(c.Sender, '@')+1:]
	}
	c.Pool = greylist.PoolOf(id)
	if f.HELOName == HELOPeer {
		c.HELO = f.HELO
	}
	return c
}

// meet asks the greylist about recipient i, which everybody else would take,
// where c wants it asked, and judges what it says.
func (s *session) meet(t *transaction, i int, c *Chain, score float64) Verdict {
	list := s.server.opts.Greylist
	if c.Greylist == nil || list == nil {
		return Verdict{Action: reply.Pass}
	}
	s.mu.Lock()
	terms, asks := c.Greylist.Asks(&t.Facts, score)
	contact, now := t.Facts.Contact(), t.moment(t.Facts.Rcpts[i].At)
	s.mu.Unlock()
	if !asks {
		return Verdict{Action: reply.Pass}
	}
	ask := list.Meet
	if s.dry {
		ask = list.Look
	}
	a, err := ask(s.ctx, now, terms, contact)
	if err != nil {
		s.server.log.Error("the greylist cannot be asked, nobody is put off", "error", err)
		a = greylist.Answer{State: greylist.Away}
	}
	s.mu.Lock()
	t.Facts.Rcpts[i].Grey = &Grey{a.State, a.Since, a.Left}
	s.mu.Unlock()
	return s.judgeFor([]Link{{Name: reply.Of(reply.Greylisted).Check, Judge: c.Greylist}}, c.Observe)
}
