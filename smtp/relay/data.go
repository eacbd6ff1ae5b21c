package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mailweir/smtp/reply"
)

// data sends the message and hears the verdict. Once the final dot is on its
// way nobody can take it back: from there on ctx, which is the patience of the
// client who waits, counts no more.
func (t *transaction) data(ctx context.Context) result {
	if _, err := t.parcel.body.Seek(0, io.SeekStart); err != nil {
		t.c.broken = true
		return t.b.failed(&failure{stage: AtBody, err: fmt.Errorf("read message: %w", err)})
	}
	err := t.c.sendBody(ctx, t.parcel.body)
	if err == nil {
		err = t.c.silent()
	}
	if err != nil {
		return t.early(err)
	}
	patient := t.parcel.sent()
	verdicts := 1
	if t.b.url.Scheme == "lmtp" {
		verdicts = len(t.parcel.to) // RFC 2033 section 4.2: one for each recipient
	}
	replies, err := t.c.finish(patient, verdicts)
	t.c.dirty = false
	if len(replies) < verdicts {
		return t.cutOff(replies, err)
	}
	return t.verdict(replies)
}

// early is the result where the message could not be sent to its end. A server
// that says no in the middle, as some do of one that is too big, has said it of
// this message; a yes there is none.
func (t *transaction) early(err error) result {
	t.c.broken = true
	if errors.Is(err, errUnasked) && t.b.url.Scheme != "lmtp" && t.c.conn.SetDeadline(time.Now().Add(time.Second)) == nil {
		if resp, err := readResponse(t.c.r); err == nil && resp.code >= 400 {
			return t.verdict([]reply.Reply{resp.reply()})
		}
	}
	return t.b.failed(&failure{stage: AtBody, err: err})
}

// sendBody sends all but the final dot. What was sent without it is no message
// (RFC 5321 section 4.1.1.4), so an error here means that nothing was taken.
func (c *client) sendBody(ctx context.Context, body io.Reader) error {
	buf := make([]byte, 64<<10)
	w := &dotWriter{w: c.w, start: true}
	for {
		n, err := body.Read(buf)
		if n > 0 {
			werr := c.within(ctx, chunkWait, func() error {
				if _, err := w.Write(buf[:n]); err != nil {
					return err
				}
				return c.w.Flush()
			})
			if werr != nil {
				return fmt.Errorf("send message: %w", werr)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return w.checkEnd(c)
		case err != nil:
			c.broken = true
			return fmt.Errorf("read message: %w", err)
		}
	}
}

// finish sends the final dot and reads n verdicts; with an error come those
// before it.
func (c *client) finish(ctx context.Context, n int) (replies []reply.Reply, err error) {
	err = c.within(ctx, finalWait, func() error {
		c.w.WriteString(".\r\n")
		if err := c.w.Flush(); err != nil {
			return err
		}
		for range n {
			resp, err := readResponse(c.r)
			if err != nil {
				return err
			}
			replies = append(replies, resp.reply())
			if resp.code == 421 {
				c.broken = true
				return nil
			}
		}
		return nil
	})
	return replies, err
}

// verdict reads the answers to the final dot. With LMTP some recipients may
// have got the message and others not: the sender is told to come again, and
// those who have it are kept in mind, so that the retry is for the others only.
func (t *transaction) verdict(replies []reply.Reply) result {
	r := result{backend: t.b, stage: AtBody, meaning: Taken, reply: replies[0]}
	if len(replies) == 1 {
		r.meaning = MeaningOf(AtBody, replies[0])
		if r.meaning == Taken {
			r.taken = t.parcel.to
			return r
		}
		for _, to := range t.parcel.to {
			r.refused = append(r.refused, refused{to, r.meaning, replies[0]})
		}
		return r
	}
	for i, said := range replies {
		if m := MeaningOf(AtBody, said); m == Taken {
			r.taken = append(r.taken, t.parcel.to[i])
		} else {
			r.refused = append(r.refused, refused{t.parcel.to[i], m, said})
		}
	}
	return r.agreed()
}

// agreed is the verdict of several: a refusal only where all refuse the same
// way, else one that has the sender come again.
func (r result) agreed() result {
	if len(r.refused) == 0 {
		return r
	}
	first := r.refused[0]
	r.meaning, r.reply = first.meaning, first.reply
	for _, f := range r.refused {
		if f.meaning != first.meaning || len(r.taken) > 0 {
			r.meaning = Away
		}
	}
	return r
}

// cutOff is the result where the server left without (all of) its verdict.
// Those that it did not speak of may have got the message; they are counted as
// not having it, since a message can rather come twice than be lost.
func (t *transaction) cutOff(replies []reply.Reply, err error) result {
	if n := len(replies); n > 0 && replies[n-1].Code == 421 && t.b.url.Scheme != "lmtp" {
		return t.verdict(replies)
	}
	r := t.b.failed(&failure{stage: AtBody, err: fmt.Errorf("the server left after the final dot without a verdict: %w", or(err, errNonsense))})
	for i, said := range replies {
		if said.Positive() {
			r.taken = append(r.taken, t.parcel.to[i])
		}
	}
	return r
}

// dotWriter doubles the dots that begin a line (RFC 5321 section 4.5.2). Its
// input has canonical line ends.
type dotWriter struct {
	w     io.Writer
	start bool // of a line
	last  byte
}

func (d *dotWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if d.start && p[0] == '.' {
			if _, err := d.w.Write([]byte{'.'}); err != nil {
				return 0, err
			}
		}
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
		}
		if _, err := d.w.Write(line); err != nil {
			return 0, err
		}
		d.last = line[len(line)-1]
		d.start = d.last == '\n'
		p = p[len(line):]
	}
	return total, nil
}

// checkEnd ends an unfinished last line: the final dot would not be one behind
// it. The session never hands over such a message.
func (d *dotWriter) checkEnd(c *client) error {
	if d.start {
		return nil
	}
	c.w.WriteString("\r\n")
	return nil // it leaves with the final dot
}
