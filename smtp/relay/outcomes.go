package relay

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

const (
	outcomesKept = 24 * time.Hour
	// maxOutcomes bounds them: an entry takes some 100 bytes with its share of
	// the map. Only those that no client has heard stay for long.
	maxOutcomes = 200_000
)

// outcomes remembers what became of messages, for clients that did not hear it
// and come again: which recipients got which message, and which message was
// refused. Two submissions are the same message if sender and Digest agree.
type outcomes struct {
	mu      sync.Mutex
	kept    map[outcomeKey]outcome
	flights map[outcomeKey]chan struct{} // closed when the delivery is over
	journal *journal                     // nil: in memory only
}

type outcomeKey [16]byte

// outcome of a recipient is that he has the message; that of an envelope is a
// refusal.
type outcome struct {
	until   int64 // seconds of Unix time
	refused *refusal
}

// refusal is a permanent answer of the backend to a message.
type refusal struct {
	reply  reply.Reply
	reason reply.Reason
}

func newOutcomes(j *journal) *outcomes {
	return &outcomes{kept: make(map[outcomeKey]outcome), flights: make(map[outcomeKey]chan struct{}), journal: j}
}

// claim is one delivery's hold on its recipients: no other delivers the same
// message to any of them meanwhile.
type claim struct {
	o        *outcomes
	to       []address.Mailbox
	keys     []outcomeKey // of the recipients
	envelope outcomeKey   // of all of them together
	over     chan struct{}

	rest    []address.Mailbox // who do not have the message yet
	refused *refusal
}

// claim waits until no delivery of the same message to one of its recipients is
// under way, and then tells what is left to do.
func (o *outcomes) claim(ctx context.Context, env smtp.Envelope) (*claim, error) {
	c := &claim{o: o, to: env.To, over: make(chan struct{})}
	c.keys, c.envelope = keysOf(env)
	for {
		busy := o.take(c)
		if busy == nil {
			return c, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (o *outcomes) take(c *claim) (busy <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range c.keys {
		if f, ok := o.flights[k]; ok {
			return f
		}
	}
	now := time.Now().Unix()
	for i, k := range c.keys {
		o.flights[k] = c.over
		if had, ok := o.kept[k]; !ok || had.until <= now {
			c.rest = append(c.rest, c.to[i])
		}
	}
	if had, ok := o.kept[c.envelope]; ok && had.until > now {
		c.refused = had.refused
	}
	return nil
}

// release ends the hold.
func (c *claim) release() {
	c.o.mu.Lock()
	for _, k := range c.keys {
		delete(c.o.flights, k)
	}
	c.o.mu.Unlock()
	close(c.over)
}

// took keeps that those recipients have the message. It returns only when a
// crash of this process cannot make us forget it.
func (c *claim) took(taken []address.Mailbox) {
	for i, to := range c.to {
		for _, t := range taken {
			if t == to {
				c.o.keep(c.keys[i], nil)
			}
		}
	}
}

// refuse keeps the backend's refusal of the whole.
func (c *claim) refuse(r refusal) { c.o.keep(c.envelope, &r) }

// forget is for an answer that the client has heard: if the same message comes
// again now, it is sent on purpose.
func (c *claim) forget() {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	for _, k := range append(c.keys, c.envelope) {
		if _, ok := c.o.kept[k]; ok {
			delete(c.o.kept, k)
			c.o.journal.forget(k)
		}
	}
	c.o.compact()
}

func (o *outcomes) keep(k outcomeKey, r *refusal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := outcome{time.Now().Add(outcomesKept).Unix(), r}
	o.room()
	o.kept[k] = v
	o.journal.keep(k, v)
	o.compact()
}

// room throws out what ends soonest among a few, when the bound is reached.
func (o *outcomes) room() {
	if len(o.kept) < maxOutcomes {
		return
	}
	var soonest outcomeKey
	looked := 0
	for k, v := range o.kept { // begins anywhere
		if looked == 0 || v.until < o.kept[soonest].until {
			soonest = k
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(o.kept, soonest)
}

// compact has the journal written anew when most of it is history.
func (o *outcomes) compact() {
	if o.journal.due(len(o.kept)) {
		o.purge(time.Now())
		o.journal.rewrite(o.kept)
	}
}

func (o *outcomes) purge(now time.Time) {
	for k, v := range o.kept {
		if v.until <= now.Unix() {
			delete(o.kept, k)
		}
	}
}

func (o *outcomes) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.kept)
}

// keysOf names the message for each recipient, and for all of them in order. A
// message without Digest is like no other.
func keysOf(env smtp.Envelope) (each []outcomeKey, all outcomeKey) {
	id := env.Digest
	if id == ([32]byte{}) {
		rand.Read(id[:]) // never fails, see crypto/rand
	}
	whole := sha256.New()
	whole.Write([]byte("envelope"))
	for _, to := range env.To {
		k := sum("recipient", id[:], []byte(env.From.String()), []byte(to.String()))
		each = append(each, k)
		whole.Write(k[:])
	}
	copy(all[:], whole.Sum(nil))
	return each, all
}

func sum(kind string, parts ...[]byte) (k outcomeKey) {
	h := sha256.New()
	h.Write([]byte(kind))
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	copy(k[:], h.Sum(nil))
	return k
}
