// Package greylist knows who has to come back. A stranger's mail is put off
// once, with a temporary answer: a mail server comes again by itself (RFC 5321
// section 4.5.4.1), and most of what sends spam does not.
//
// What is put off is not an address but a triple: who sends (the pool of hosts
// that the connection belongs to), the sender with what changes from mail to
// mail taken off, and the recipient. Large senders come again from another
// host, so the pool is the widest identity that is proven:
//
//	SPF passes, through a network that is narrow    the sender's organisational domain
//	a confirmed name that is the host's own         its organisational domain
//	neither                                         the /24 or /64
//
// and a second key (the sender's domain, the recipient, and a HELO name that
// resolves to the peer) catches the pools whose hosts share nothing else.
//
//	first contact ── Delay ──► may pass ── until Window is over ──► forgotten
//	                 (early: told what is left, the clock goes on)
//	passed: remembered for Pass from its last mail
//
// Nothing here reads a clock or judges: whether the answer matters (known
// senders, postmaster, notifications) is for smtp/check to say.
package greylist

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Terms are how long things take.
type Terms struct {
	Delay  time.Duration // from the first contact to the first retry that passes
	Window time.Duration // from the first contact: who comes later begins anew
	Pass   time.Duration // how long who passed is remembered after his last mail
}

// Default are the terms that the product starts with.
var Default = Terms{Delay: 10 * time.Minute, Window: 48 * time.Hour, Pass: 36 * 24 * time.Hour}

// State is what the list has to say of a contact.
type State string

// The states, as records have them.
const (
	First  State = "new"    // nobody knew it: it has to come back
	Early  State = "early"  // it came back before Delay was over
	Passed State = "passed" // it came back in time, now or before
	// Away is what is kept where the list could not be asked, or has no room for
	// one more: nobody is put off.
	Away State = "unavailable"
)

// Answer is what became of a contact.
type Answer struct {
	State State
	Since time.Time     // the first contact that counts
	Left  time.Duration // until a retry passes; 0 where it did
}

// Entry is what a store keeps of a triple.
type Entry struct {
	First  time.Time
	Last   time.Time
	Passed bool
}

// Key names a triple: a keyed hash, so that a store learns no addresses.
type Key [16]byte

// Store keeps entries. Local is the one on this machine; several edges may
// share another. It may forget what its ttl is over for, and loses nothing but
// time when it forgets more.
type Store interface {
	// Get returns the entry under the first of keys that has one.
	Get(ctx context.Context, keys []Key) (Entry, bool, error)
	// Put keeps an entry under each of keys. ErrFull: there is no room for it.
	Put(ctx context.Context, keys []Key, e Entry, ttl time.Duration) error
}

// ErrFull says that a store has no room but that of contacts which may be about
// to come back.
var ErrFull = errors.New("more senders wait than the greylist has room for")

// List is the greylist. Its methods may be called concurrently.
type List struct {
	store Store
	seed  [16]byte
}

// New returns a List on a store. The seed keys its hashes: random, secret, and
// the same for all who share the store.
func New(store Store, seed [16]byte) *List { return &List{store, seed} }

// Meet takes in a contact at a moment. An error means that the store could not
// be asked: then nobody is put off.
func (l *List) Meet(ctx context.Context, now time.Time, t Terms, c Contact) (Answer, error) {
	keys := c.keys(l.seed)
	e, ok, err := l.store.Get(ctx, keys)
	if err != nil {
		return Answer{}, fmt.Errorf("ask the greylist: %w", err)
	}
	if ok && e.over(now, t) {
		ok = false
	}
	if ok && e.First.After(now) {
		e.First = now // the clock went back: it is no reason to wait for it
	}
	a := Answer{State: First, Since: now, Left: t.Delay}
	if !ok {
		e = Entry{First: now}
	} else if a.Since, a.Left = e.First, e.First.Add(t.Delay).Sub(now); e.Passed || a.Left <= 0 {
		a.State, a.Left, e.Passed = Passed, 0, true
	} else {
		a.State = Early
	}
	e.Last = now
	ttl := t.Window - now.Sub(e.First)
	if e.Passed {
		ttl = t.Pass
	}
	err = l.store.Put(ctx, keys, e, ttl)
	if errors.Is(err, ErrFull) {
		return Answer{State: Away}, nil
	}
	if err != nil {
		return Answer{}, fmt.Errorf("keep in the greylist: %w", err)
	}
	return a, nil
}

// Look says what Meet would, and changes nothing.
func (l *List) Look(ctx context.Context, now time.Time, t Terms, c Contact) (Answer, error) {
	return New(readOnly{l.store}, l.seed).Meet(ctx, now, t, c)
}

// readOnly is a store that keeps nothing.
type readOnly struct{ Store }

func (readOnly) Put(context.Context, []Key, Entry, time.Duration) error { return nil }

// over says that an entry counts no more.
func (e Entry) over(now time.Time, t Terms) bool {
	if e.Passed {
		return now.Sub(e.Last) >= t.Pass
	}
	return now.Sub(e.First) >= t.Window
}
