package smtp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"mailweir/smtp/reply"
	"mailweir/smtp/wire"
)

// client is one live connection, from accept to close.
type client struct {
	server  *Server
	nc      net.Conn
	peer    netip.Addr
	wire    *wire.Conn
	session *session
	cancel  context.CancelFunc
	arrived bool        // the first HELO was seen
	banned  atomic.Bool // reset because its source was banned meanwhile
}

// serveConn is the life of one connection.
func (s *Server) serveConn(nc net.Conn) {
	defer nc.Close()
	s.stats.connection()
	peer, listener := ends(nc)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := &client{server: s, nc: nc, peer: peer, cancel: cancel}
	c.session = s.newSession(ctx, peer, listener)
	c.session.conn, _ = nc.(*net.TCPConn)
	v := c.session.guard("connection", func() Verdict { c.live(); return Verdict{} })
	if v.Reason == reply.Internal { // the others go on
		c.reset()
	}
}

// live is the life of a connection whose session is there.
func (c *client) live() {
	s := c.server
	if !c.standing() || !c.welcome() || c.blocked() {
		return
	}
	would, refuse := s.limits.admit(s.now(), c.peer, c.session.tier, c.session.policy)
	s.shed(c.session.policy)
	if !c.admitted(would, refuse) {
		return
	}
	defer s.limits.release(c.peer)
	c.wire = wire.New(c.nc, c.wireConfig(), c)
	if !s.live.add(c) {
		c.turnAway(Verdict{Action: reply.Defer, Reason: reply.Shutdown})
		return
	}
	defer s.live.remove(c)
	if c.gate(c.session.ctx) {
		c.serve()
	}
	c.closed()
}

// ends returns both ends of nc. An IPv4 client on an IPv6 socket is an IPv4
// client everywhere (R-MC-01): bans, limits and records know one form.
func ends(nc net.Conn) (peer netip.Addr, listener netip.AddrPort) {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		peer = a.AddrPort().Addr().Unmap().WithZone("")
	}
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		listener = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return peer, listener
}

// standing asks whether the source is banned, for the times when no engine
// holds the kernel. false: the connection is over.
func (c *client) standing() bool {
	v, b := c.session.standing()
	switch {
	case v.passes():
		return true
	case c.session.owes(): // guard has to see it speak
		return true
	case b.Explain:
		c.turnAway(v)
		return false
	}
	c.session.count(reply.Banned)
	c.reset()
	c.session.end(Dropped, reply.Banned)
	return false
}

// blocked turns away whom the operator blocks by his address.
func (c *client) blocked() bool {
	v := c.session.blocked()
	if v.passes() {
		return false
	}
	c.turnAway(v)
	return true
}

// standing is the verdict on the source by the bans that stand.
func (s *session) standing() (Verdict, Standing) {
	g := s.server.opts.Gate
	if g == nil {
		return Verdict{Action: reply.Pass}, Standing{}
	}
	v, b := Verdict{Action: reply.Pass}, Standing{}
	v = s.guard("gate", func() Verdict {
		var banned bool
		if b, banned = g.Banned(s.peer); !banned || s.tier == Protected {
			return v
		}
		until := b.Until.UTC().Format(time.RFC3339)
		return s.observed(Verdict{
			Action: reply.Drop, Reason: reply.Banned, Detail: fmt.Sprintf("until %s, ban %v", until, b.Ref),
			Reply: reply.Banned.Reply().Detail(fmt.Sprintf("until %s, ban %v", until, b.Ref)),
		})
	})
	if v.Reason == reply.Internal { // nobody is refused because guard is sick
		return Verdict{Action: reply.Pass}, Standing{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx.check(reply.Of(reply.Banned).Check, v, 0)
	return v, b
}

// welcome convicts who is banned for where it comes from. The handshake is
// complete, so that nobody is banned whom somebody else only pretended to be.
// false: the connection is over.
func (c *client) welcome() bool {
	s := c.session
	v := s.arrival()
	if v.passes() {
		return true
	}
	s.convict(s.tx, s.tx.moment(0), Conviction{Reason: v.Reason, Evidence: Evidence{Rule: v.Detail}})
	if !s.isConvicted() {
		return true
	}
	s.count(v.Reason)
	c.reset()
	s.end(Dropped, v.Reason)
	return false
}

// arrival is the first verdict on the address alone that does not pass.
func (s *session) arrival() Verdict {
	v := s.guard("arrival", func() Verdict {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.policy.Chain.Arrives(&s.tx.Facts)
	})
	if v.Reason == reply.Internal { // nobody is banned for a fault of ours
		return Verdict{Action: reply.Pass}
	}
	return v
}

// admitted acts on what the limits said, and on maintenance.
func (c *client) admitted(would, refuse reply.Reason) bool {
	v := Verdict{Action: reply.Defer, Reason: refuse}
	closed := c.session.closed()
	switch {
	case refuse != "":
	case !closed.passes():
		v = closed
		c.server.limits.release(c.peer)
	case would != "": // observe mode
		v := c.session.observed(Verdict{Action: reply.Defer, Reason: would})
		c.session.mu.Lock()
		c.session.tx.check(reply.Of(would).Check, v, 0)
		c.session.mu.Unlock()
		return true
	default:
		return true
	}
	c.turnAway(v)
	return false
}

// closed is the verdict on everybody while the operator keeps the door shut.
func (s *session) closed() Verdict {
	if s.server.opts.Maintenance != nil {
		if text := s.server.opts.Maintenance(); text != "" {
			return Verdict{Action: reply.Defer, Reason: reply.Maintenance, Reply: reply.Maintenance.Reply().Detail(text)}
		}
	}
	return Verdict{Action: reply.Pass}
}

// turnAway answers a connection in place of the greeting, and closes it.
func (c *client) turnAway(v Verdict) {
	if c.wire == nil {
		c.wire = wire.New(c.nc, c.wireConfig(), c)
	}
	c.wire.TurnAway(c.session.refuseOther(v))
	c.closed()
}

// closed records what the end of the connection leaves to record.
func (c *client) closed() {
	c.noteTLS()
	if c.banned.Load() {
		c.session.end(Dropped, reply.Banned)
		return
	}
	if cause := c.wire.Cause(); c.session.slipped(wire.TLSFailed) && cause != nil {
		c.session.failedTLS(cause)
		return
	}
	c.session.end("", "")
}

// reset ends the connection with a RST, from any goroutine, without waiting.
func (c *client) reset() {
	c.banned.Store(true)
	if c.wire != nil {
		c.wire.Reset()
	} else if tc, ok := c.nc.(*net.TCPConn); ok {
		tc.SetLinger(0)
		tc.Close()
	}
	c.cancel()
}

// wireConfig is the policy as far as the wire sees to it.
func (c *client) wireConfig() wire.Config {
	p := c.session.policy
	cfg := wire.Config{
		Hostname:       c.server.opts.Hostname,
		Postmaster:     p.Postmaster,
		TLS:            p.TLS,
		MaxMessageSize: p.MaxMessageSize,
		RefuseBareEnds: p.RefuseBareEnds,
		Timeouts: wire.Timeouts{
			Command: p.Timeouts.Command, DataIdle: p.Timeouts.DataIdle, Session: p.Timeouts.Session,
		},
	}
	if !p.SMTPUTF8 {
		cfg.Hide = append(cfg.Hide, "SMTPUTF8")
	}
	return cfg
}

// Refuse, Replied and Slip make client the wire.Events of its session.

// Refuse gives a refusal of the wire's own making its ref, and keeps it.
func (c *client) Refuse(reason reply.Reason, cmd wire.Command, r reply.Reply) reply.Reply {
	v := Verdict{Action: reply.Of(reason).Action, Reason: reason, Reply: r}
	v.Detail = strings.TrimSpace(fmt.Sprintf("%s %d", cmd.Verb, r.Code))
	switch {
	case reason == reply.Order || r.Code == 421: // not about the envelope
	case cmd.Verb == "MAIL":
		return c.session.malformedSender(cmd.Arg, v)
	case cmd.Verb == "RCPT":
		return c.session.malformedRecipient(cmd.Arg, v)
	case reason != reply.NoRecipients && (cmd.Verb == "DATA" || cmd.Verb == "BDAT"):
		return c.session.refuseMessage(v)
	}
	return c.session.refuseOther(v)
}

// Replied takes in every reply as it was written.
func (c *client) Replied(cmd wire.Command, r reply.Reply) {
	if cmd.Verb == "" && r.Code == 421 {
		c.session.saidFarewell(r)
	}
	hello := cmd.Verb == "EHLO" || cmd.Verb == "HELO"
	if r.Code == 250 && (hello || cmd.Verb == "RSET") {
		c.session.reset() // a MAIL that was refused is over; go-smtp may not be there to say so
	}
	if r.Code == 250 && hello {
		c.arrive()
		c.noteTLS()
		c.session.greeted(cmd)
	}
	c.session.replied(r, cmd.Verb != "" && !cmd.Early)
}

// arrive convicts who was found out while he was away, by his first HELO and not
// by the connection: guard believes an offence only of a source that spoke.
func (c *client) arrive() {
	if !c.arrived {
		c.arrived = true
		c.session.arrive()
	}
}

// Slip notes a breach of the protocol.
func (c *client) Slip(s wire.Slip) { c.session.slip(string(s)) }

func (c *client) noteTLS() {
	state := c.wire.TLS()
	if state == nil {
		return
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.session.tls = tlsName(state.Version)
	c.session.tx.Facts.TLS = c.session.tls
}

// tlsName writes a version as records have it: TLS1.3.
func tlsName(version uint16) string {
	return strings.ReplaceAll(tls.VersionName(version), " ", "")
}
