// Package relay talks to the mail servers behind the appliance: it asks them
// which recipients exist, hands messages over to them, and understands what
// they answer.
//
// A Backend is one such server, reached by SMTP (RFC 5321), LMTP (RFC 2033) or
// as a maildir. A Router holds the routes: for each domain an Oracle and a
// Deliverer over its backends in order. Memory is what outlives a restart and a
// reload: the recipients known to exist, and the outcomes that a client has not
// heard.
//
//	RCPT ─► Router ─► Oracle:    cache ─► one question an address ─► pooled connection ─┐
//	DATA ─► Router ─► Deliverer: outcome of an earlier try? ─► pooled connection ───────┴─► Backend
//
// Whatever a backend answers is first given a Class (what kind of refusal is
// this text?) and then, with the stage at which it came, a Meaning (what is it
// to us?). Only a clear permanent "no such user" to a RCPT means an unknown
// user, since that counts towards a ban; whatever refuses us and not the
// message or the recipient never becomes a permanent refusal of ours.
//
// No message is lost: 250 is said only after the backend said it for the
// message and every recipient. A message can arrive twice only where a
// transaction is cut between its final dot and the moment at which the
// backend's 250 stands in our journal, because nobody can know then whether the
// backend took it: the connection or the backend dies in between, this process
// is killed or stopped in between, or the machine loses power up to some seconds
// after it (the journal is not synced). See RFC 1047.
//
// Time is that of the runtime; tests run in testing/synctest.
package relay

import "time"

// How long we wait for a backend. The client of RFC 5321 section 4.5.3.2 is
// more patient, but ours waits behind us with its own clock running.
const (
	dialWait    = 10 * time.Second
	greetWait   = 30 * time.Second // postscreen and tarpits greet late on purpose
	commandWait = 60 * time.Second
	chunkWait   = 3 * time.Minute  // for each 64 KiB of data
	finalWait   = 10 * time.Minute // for the answer to the final dot
	quitWait    = 2 * time.Second
)
