package smtp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"mailweir/ref"
	"mailweir/smtp/reply"
	"mailweir/smtp/wire"
)

// session is one connection as the judges see it: the facts of its client, and
// the transaction that is being gathered. It knows nothing of go-smtp and of
// the wire, so that weir test takes the same way through it without a
// connection.
//
// Its methods say what to reply; what was written comes back by replied. mu
// guards everything below it, because go-smtp runs a message in BDAT chunks in
// a goroutine of its own.
type session struct {
	server *Server
	policy *Policy
	ctx    context.Context // ends with the connection
	conn   *net.TCPConn    // to show guard whom a conviction means; nil in a test
	id     ref.Ref
	dry    bool // weir test: nothing is counted, filed or recorded

	peer     netip.Addr
	listener netip.AddrPort
	country  string
	asn      uint32
	tier     Tier // by its history too
	given    Tier // as the operator and the checks have it
	provider string
	history  *History
	fedBy    bool // a feed that bans was looked at

	mu        sync.Mutex
	rdns      *RDNS
	helo      string
	heloName  HELOName
	peerScout *scouting // nil: nobody looks anything up
	heloScout *scouting
	esmtp     bool // EHLO
	tls       string
	slips     []string
	tx        *transaction
	records   int               // transactions recorded so far
	pending   func(reply.Reply) // takes the next reply that is written
	heard     func(bool)        // of the last receipt, until the client speaks again
	convicted bool              // the session ends with the next reply
	byeRef    ref.Ref           // of the 421 that ends it when we want it to
	byeWhy    reply.Reason      // and why we do
}

// newSession gathers what is known of a source by its address alone.
func (s *Server) newSession(ctx context.Context, peer netip.Addr, listener netip.AddrPort) *session {
	n := &session{
		server: s, policy: s.policy.Load(), ctx: ctx, id: ref.New(),
		peer: peer, listener: listener, tier: New,
	}
	if s.opts.Tiers != nil {
		n.tier = s.opts.Tiers.Tier(peer)
	}
	if s.opts.Origins != nil {
		n.country, n.asn = s.opts.Origins.Lookup(peer)
	}
	n.given = n.tier
	if w := s.opts.Watcher; w != nil {
		n.guard("harvest", func() Verdict {
			n.tier = w.Tier(s.now(), peer, n.given)
			n.history = w.History(s.now(), peer)
			return Verdict{}
		})
	}
	if n.tier == Provider && s.opts.Provider != nil {
		n.provider = s.opts.Provider(peer)
	}
	n.begin()
	return n
}

// slip notes a protocol slip at its first sight.
func (s *session) slip(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.slips, name) {
		// A new slice each time: recorded transactions share the old ones.
		s.slips = append(slices.Clone(s.slips), name)
		s.tx.Facts.Slips = s.slips
	}
}

func (s *session) slipped(name wire.Slip) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.slips, string(name))
}

// failedTLS ends a session whose handshake failed, with the cause for who has
// to find out why (R-BW-E24).
func (s *session) failedTLS(cause error) {
	s.mu.Lock()
	v := Verdict{Action: reply.Log, Reason: reply.TLSFailed, Detail: cause.Error()}
	s.tx.check(reply.Of(v.Reason).Check, v, 0)
	s.mu.Unlock()
	s.count(reply.TLSFailed)
	s.end(Aborted, reply.TLSFailed)
}

// greeted takes in an accepted HELO or EHLO.
func (s *session) greeted(cmd wire.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.helo
	s.helo, _, _ = strings.Cut(cmd.Arg, " ")
	s.esmtp = cmd.Verb == "EHLO"
	s.tx.Facts.HELO = s.helo
	s.scoutHELO(before)
}

// judge runs links over the facts of the current transaction and returns the
// first verdict that does not pass.
func (s *session) judge(links []Link) Verdict { return s.judgeFor(links, false) }

// judgeFor is judge for a recipient whose domain may only observe.
func (s *session) judgeFor(links []Link, observe bool) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range links {
		begun := time.Now() // not the server's clock: what the record keeps is the cost
		v := s.told(s.observed(l.Judge.Judge(&s.tx.Facts)), observe)
		s.tx.check(l.Name, v, time.Since(begun))
		if !v.passes() {
			return v
		}
	}
	return Verdict{Action: reply.Pass}
}

func (v Verdict) passes() bool { return v.Action == reply.Pass || v.Action == reply.Log }

// guard turns a panic of f into the one verdict that our own faults have: a
// sender never pays for them (R-BW-E10).
func (s *session) guard(what string, f func() Verdict) (v Verdict) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		s.server.log.Error("fault of ours, please report it", "in", what, "session", s.id.String(),
			"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		v = Verdict{Action: reply.Defer, Reason: reply.Internal, Reply: reply.Internal.Reply()}
	}()
	return f()
}

// refuse is how every refusal leaves the session: counted, and with the ref.
// Called with s.mu held.
func (s *session) refuse(v Verdict) reply.Reply {
	if v.Reply.Code == 0 {
		v.Reply = v.Reason.Reply()
	}
	s.count(v.Reason)
	if !s.tx.spoken && !s.dry {
		s.server.opts.Recorder.Announce(s.ctx, s.tx.Transaction)
	}
	s.tx.spoken = true
	return v.Reply.WithRef(s.tx.Facts.Ref)
}

func (s *session) count(r reply.Reason) {
	if !s.dry {
		s.server.stats.reason(r)
	}
}

// spare counts what would have been a refusal.
func (s *session) spare(r reply.Reason) {
	if !s.dry {
		s.server.stats.spared(r)
	}
}

// refuseOther refuses what concerns neither a recipient nor a message: the
// connection, a command out of order, a line that is none.
func (s *session) refuseOther(v Verdict) reply.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.refuse(v)
	t := s.tx
	t.check(reply.Of(v.Reason).Check, v, 0)
	t.last = refusal{v.Reason, said}
	s.pending = func(w reply.Reply) { t.last.said = w }
	return said
}

// refuseMessage refuses what stands behind DATA or BDAT.
func (s *session) refuseMessage(v Verdict) reply.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.refuse(v)
	t := s.tx
	t.check(reply.Of(v.Reason).Check, v, 0)
	s.pending = func(w reply.Reply) {
		t.decide(outcomeOf(v.Reason, w), v.Reason, w)
		s.finish()
	}
	return said
}

// replied takes in a reply as it was written. wentOn: it answers a command that
// the client sent after the reply to its last message, and so has heard that.
func (s *session) replied(r reply.Reply, wentOn bool) {
	s.mu.Lock()
	var heard func(bool)
	if wentOn {
		heard, s.heard = s.heard, nil
	}
	if take := s.pending; take != nil {
		s.pending = nil
		take(r)
	}
	s.mu.Unlock()
	if heard != nil {
		heard(true)
	}
}

// reset ends the transaction: RSET, a second HELO, or the end of a message.
func (s *session) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.Facts.MailFrom != nil && s.pending == nil {
		s.finish()
	}
}

// end records what is left when the connection is gone. An outcome that is
// given says why it went, for a transaction that nothing else decided.
func (s *session) end(o Outcome, r reply.Reason) {
	s.mu.Lock()
	if take := s.pending; take != nil { // decided, but the reply was never written
		s.pending = nil
		take(reply.Reply{})
	}
	if o != "" {
		s.tx.decide(o, r, reply.Reply{})
	}
	s.finish()
	heard := s.heard
	s.heard = nil
	s.mu.Unlock()
	if heard != nil {
		heard(false)
	}
}
