package smtp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"sync"
	"time"

	"mailweir/smtp/reply"
)

// patience is how long a client waits for the answer to its message, by RFC
// 5321 section 4.5.3.2.6 ten minutes, less what the way there takes. A Deliverer
// that needs longer answers 451, finishes, and knows the outcome when the
// client comes again.
const patience = 9 * time.Minute

// data takes a message and hands it over. The client waits meanwhile: what the
// backend says is what we say.
//
// All of r is read whatever is decided, because go-smtp would take what is left
// for commands, and answer a chunk of BDAT before its time.
func (s *session) data(r io.Reader) reply.Reply {
	s.mu.Lock()
	t := s.tx
	s.mu.Unlock()
	var receipt Receipt
	gone := false
	m := newMessage(s.server.opts.TempDir, &s.server.bodies)
	defer m.close()
	v := s.guard("DATA", func() Verdict {
		digest, h, v, whole := s.receive(t, m, r)
		if gone = !whole; gone || !v.passes() {
			return v
		}
		if v := s.judge(s.policy.Chain.Data); !v.passes() {
			return v
		}
		s.authenticate(t, m, h)
		if v := s.weighMessage(t); !v.passes() {
			return v
		}
		receipt = s.deliver(t, m, digest)
		return verdictOf(receipt)
	})
	if gone {
		return reply.Internal.Reply() // heard by nobody: the wire has its own word, or the client left
	}
	return s.answerMessage(t, v, receipt)
}

// pieces are what messages come in by; go-smtp reads 4 KiB at a time.
var pieces = sync.Pool{New: func() any { return new([8 << 10]byte) }}

// receive reads the message to its end into m and gathers its facts. It is not
// whole when the client left, or when the wire refused it on the way.
func (s *session) receive(t *transaction, m *message, r io.Reader) (digest [sha256.Size]byte, h *header, v Verdict, whole bool) {
	sum := sha256.New()
	h = &header{out: io.MultiWriter(sum, m), authserv: s.server.opts.Hostname}
	in := &intake{h: h, limit: t.Facts.Limit}
	piece := pieces.Get().(*[8 << 10]byte)
	_, err := io.CopyBuffer(in, r, piece[:])
	pieces.Put(piece)
	in.close()

	s.mu.Lock()
	defer s.mu.Unlock()
	t.Facts.Size, t.Facts.Hops, t.Facts.MessageID = in.size, h.hops, h.messageID
	switch {
	case err != nil:
		return digest, h, Verdict{}, false
	case in.size > in.limit:
		return digest, h, Verdict{Action: reply.Reject, Reason: reply.Size}, true
	case in.err != nil:
		return digest, h, s.notHeld(t, in.err), true
	}
	return [sha256.Size]byte(sum.Sum(nil)), h, Verdict{Action: reply.Pass}, true
}

// notHeld is the verdict on a message that our own disk did not take.
func (s *session) notHeld(t *transaction, err error) Verdict {
	s.server.log.Error("message could not be held, look after the disk under state_dir",
		"ref", t.Facts.Ref.String(), "error", err)
	if isFull(err) {
		return Verdict{Action: reply.Defer, Reason: reply.DiskFull}
	}
	return Verdict{Action: reply.Defer, Reason: reply.Internal}
}

// intake takes every byte of a message, and passes them on as long as they are
// within the limit and there was no error of ours.
type intake struct {
	h     *header
	limit int64
	size  int64
	err   error
	last  [2]byte // of the message, to see a missing last line end
}

func (in *intake) Write(p []byte) (int, error) {
	in.size += int64(len(p))
	if in.err == nil && in.size <= in.limit {
		_, in.err = in.h.Write(p)
	}
	switch n := len(p); {
	case n >= 2:
		in.last = [2]byte(p[n-2:])
	case n == 1:
		in.last = [2]byte{in.last[1], p[0]}
	}
	return len(p), nil
}

// close ends the last line, which a message in BDAT chunks may have left open
// and which DATA cannot carry so, and flushes the header.
func (in *intake) close() {
	if in.err != nil || in.size > in.limit {
		return
	}
	if in.size > 0 && !bytes.Equal(in.last[:], []byte("\r\n")) {
		if _, in.err = in.h.Write([]byte("\r\n")); in.err != nil {
			return
		}
	}
	in.err = in.h.Close()
}

// deliver hands the message over. Its context does not end with the connection:
// a backend's transaction that has begun is finished though the client left,
// and its outcome answers the client's retry.
func (s *session) deliver(t *transaction, m *message, digest [sha256.Size]byte) Receipt {
	s.mu.Lock()
	env := Envelope{
		Ref: t.Facts.Ref, Peer: s.peer, From: t.from, To: t.to,
		EightBit: t.eightBit, SMTPUTF8: t.utf8, Registered: t.begun, Digest: digest,
	}
	body := m.under(append(s.results(t), s.received(t)...))
	env.Size = body.Size()
	route := t.route
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), patience)
	defer cancel()
	stop := context.AfterFunc(s.server.cut, cancel)
	defer stop()
	return route.Deliverer.Deliver(ctx, env, body)
}

// verdictOf reads a receipt. One that makes no sense is our own fault.
func verdictOf(r Receipt) Verdict {
	v := Verdict{Reason: r.Reason, Reply: r.Reply, Detail: r.Detail}
	switch {
	case r.Reply.Code == 250:
		v.Action = reply.Pass
	case r.Reply.Transient():
		v.Action = reply.Defer
	case r.Reply.Permanent():
		v.Action = reply.Reject
	default:
		return Verdict{Action: reply.Defer, Reason: reply.Internal}
	}
	return v
}

// answerMessage turns the verdict into the reply and the outcome.
func (s *session) answerMessage(t *transaction, v Verdict, receipt Receipt) reply.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Facts.Backend, t.Facts.BackendReply = receipt.Backend, receipt.Detail
	said := reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 0, 0}, Text: "Message accepted (ref " + t.Facts.Ref.String() + ")"}
	if receipt.Complaint != "" {
		t.check(reply.Of(reply.Complaint).Check, Verdict{Action: reply.Log, Reason: reply.Complaint, Detail: receipt.Complaint}, 0)
	}
	if v.passes() {
		t.decide(Accepted, "", said)
	} else {
		said = s.refuse(v)
		t.note(reply.Of(v.Reason).Check, v, 0)
		t.decide(outcomeOf(v.Reason, said), v.Reason, said)
	}
	s.pending = func(w reply.Reply) {
		if w.Code != 0 {
			t.Reply = w
		}
		s.finish()
		if s.heard != nil { // two messages were sent without a pause
			s.heard(false)
		}
		s.heard = receipt.Heard
	}
	return said
}
