package smtp

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// RDNS is what reverse DNS says of an address.
type RDNS struct {
	Name    string // the confirmed one, else the first; "": none
	State   RDNSState
	Class   string // custom, generic, dynamic, none
	Pattern string // what Class was told by
}

// RDNSState says whether an address has a name that resolves back to it.
type RDNSState string

// The states of a reverse name.
const (
	Confirmed  RDNSState = "confirmed"
	Mismatched RDNSState = "mismatch"
	NoRDNS     RDNSState = "missing"
	RDNSFailed RDNSState = "error" // of the zone's servers
)

// Vouched says that the sender's domain names a host whose own name is in order:
// SPF passes, through a network that is narrow enough to mean it, and the name is
// confirmed.
func (f *Facts) Vouched() bool {
	return f.SPF == "pass" && !f.SPFWide && f.RDNS != nil && f.RDNS.State == Confirmed
}

// OwnName is the confirmed name of the peer, where it is its own: neither made
// of its address nor that of a line; else "".
func (f *Facts) OwnName() string {
	if r := f.RDNS; r != nil && r.State == Confirmed && r.Class != "generic" && r.Class != "dynamic" {
		return r.Name
	}
	return ""
}

// Nameless says that reverse DNS has no name of a mail server for the peer.
func (f *Facts) Nameless() bool {
	switch r := f.RDNS; {
	case r == nil || r.State == RDNSFailed:
		return false
	default:
		return r.State != Confirmed || r.Class == "generic" || r.Class == "dynamic"
	}
}

// Listing is one answer of a DNS list.
type Listing struct {
	Name   string // of the list, as the operator calls it
	About  string // the domain that is on it; "": the peer's address
	Answer string // the documented return code
	Score  float64
	Text   string // the list's own words (TXT)
}

// HELOName is what the argument of HELO resolves to.
type HELOName string

// What a HELO name may resolve to.
const (
	HELOPeer    HELOName = "peer" // the client's address, among others
	HELOOther   HELOName = "other"
	HELOMissing HELOName = "missing"
	HELOFailed  HELOName = "error"
)

// SenderDomain is how the domain of MAIL FROM can be written back to.
type SenderDomain string

// The states of a sender's domain.
const (
	SenderOK       SenderDomain = "ok"
	SenderNXDomain SenderDomain = "nxdomain" // or neither MX nor address
	SenderNullMX   SenderDomain = "nullmx"   // RFC 7505
	SenderNoMX     SenderDomain = "nomx"     // an address only
	SenderNoMXYet  SenderDomain = "nomx_yet" // the same, and we see it for the first time
	SenderFailed   SenderDomain = "error"
)

// Scout looks up what the network says of a client; smtp/scout has the one that
// asks DNS. Each method answers within ctx. What it could not learn because our
// own resolver is sick is absent: a sender never pays for that (R-CX-03).
type Scout interface {
	Peer(ctx context.Context, peer netip.Addr) (*RDNS, []Listing)
	HELO(ctx context.Context, peer netip.Addr, helo string) (HELOName, []Listing)
	Sender(ctx context.Context, peer netip.Addr, helo, from string) (domain SenderDomain, spf SPF, lists []Listing)
	Content(ctx context.Context, c Content) Authentication
}

// SPF is a result with how much it says.
type SPF struct {
	Result string // as in RFC 7208 section 2.6; "": not gathered
	Wide   bool   // see Facts.SPFWide
}

// How long the scout may take. SPF may follow ten names, each of which may be
// slow (RFC 7208 section 4.6.4 wants at least 20 s for all).
const (
	scoutPeer    = 3 * time.Second
	scoutHELO    = 2 * time.Second
	scoutSender  = 20 * time.Second
	scoutContent = 10 * time.Second
)

// scouting is what the scout is after; facts of it are in when done is closed.
type scouting struct {
	done  chan struct{}
	lists []Listing
	took  time.Duration
}

// scout starts a look-up, unless the source is one that is not judged. ask is
// called without the lock, and put with it.
func (s *session) scout(patience time.Duration, ask func(context.Context, Scout) []Listing, put func()) *scouting {
	if s.policy.Scout == nil || s.given == Protected {
		return nil
	}
	g := &scouting{done: make(chan struct{})}
	go func() {
		defer close(g.done)
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		begun := time.Now()
		s.guard("scout", func() Verdict {
			lists := ask(ctx, s.policy.Scout)
			s.mu.Lock()
			defer s.mu.Unlock()
			g.took = time.Since(begun)
			if ctx.Err() == nil || len(lists) > 0 {
				g.lists = lists
			}
			put()
			return Verdict{}
		})
	}()
	return g
}

// scoutPeer starts on the source's address.
func (s *session) scoutPeer() {
	var rdns *RDNS
	s.peerScout = s.scout(scoutPeer, func(ctx context.Context, sc Scout) (lists []Listing) {
		rdns, lists = sc.Peer(ctx, s.peer)
		return lists
	}, func() { s.rdns = rdns })
}

// scoutHELO starts on what the client calls itself. Called with s.mu held.
func (s *session) scoutHELO(before string) {
	if s.helo == before && s.heloScout != nil {
		return // EHLO again, after STARTTLS
	}
	helo, name := s.helo, HELOName("")
	s.heloName = ""
	s.heloScout = s.scout(scoutHELO, func(ctx context.Context, sc Scout) (lists []Listing) {
		name, lists = sc.HELO(ctx, s.peer, helo)
		return lists
	}, func() {
		if s.helo == helo {
			s.heloName = name
		}
	})
}

// scoutSender starts on the sender of t. Called with s.mu held.
func (s *session) scoutSender(t *transaction) {
	if t.Facts.MailForm != GoodForm {
		return
	}
	var domain SenderDomain
	var spf SPF
	helo, from := s.helo, t.from.Mailbox
	t.scout = s.scout(scoutSender, func(ctx context.Context, sc Scout) (lists []Listing) {
		domain, spf, lists = sc.Sender(ctx, s.peer, helo, bareAddress(from))
		return lists
	}, func() { t.domain, t.spf = domain, spf })
}

// bareAddress is a mailbox as SPF takes it, "" for the null sender.
func bareAddress(m address.Mailbox) string {
	if m.Domain == "" {
		return ""
	}
	return m.Local + "@" + m.Domain
}

// scouted waits for what was started, and takes it into the facts of t.
func (s *session) scouted(t *transaction, started ...*scouting) {
	for _, g := range started {
		if g != nil {
			<-g.done // ends by its own time-out
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeScouted(t)
}

// takeScouted takes what is known by now into the facts of t. Called with s.mu
// held.
func (s *session) takeScouted(t *transaction) {
	f := &t.Facts
	f.RDNS, f.HELOName, f.Sender = s.rdns, s.heloName, t.domain
	f.SPF, f.SPFWide = t.spf.Result, t.spf.Wide
	f.Lists = nil
	for _, g := range []*scouting{s.peerScout, s.heloScout, t.scout} {
		if g != nil {
			f.Lists = append(f.Lists, g.lists...)
		}
	}
}

// suspect makes the source one when what is known of its address says so.
func (s *session) suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given != New {
		return
	}
	f := s.tx.Facts
	f.RDNS, f.Lists = s.rdns, nil
	if s.peerScout != nil {
		f.Lists = s.peerScout.lists
	}
	if !s.policy.Chain.Suspects(&f) {
		return
	}
	s.given = Suspect
	s.tier = Suspect
	if w := s.server.opts.Watcher; w != nil {
		s.tier = w.Tier(s.server.now(), s.peer, s.given)
	}
	s.tx.Facts.Tier = s.tier
}

// IsPostmaster says whether a mailbox is one that must be there for whoever is
// refused (RFC 5321 section 4.5.1): to it, refusals of policy are only told.
func IsPostmaster(mailbox string) bool {
	local, _, _ := strings.Cut(mailbox, "@")
	return strings.EqualFold(local, "postmaster")
}

// Spared says that refusals of policy are only told, and not made, to the last
// recipient: it is postmaster, or the operator lets the mail in.
func (f *Facts) Spared() bool {
	n := len(f.Rcpts)
	return n > 0 && (IsPostmaster(f.Rcpts[n-1].To) || f.Rcpts[n-1].Allowed())
}

// weigh has the judges of policy say their word of the recipient, the last of
// t if there is one, and keeps what they said.
func (s *session) weigh(t *transaction, c *Chain, stages ...[]Link) Weight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.weighFacts(t, &t.Facts, c, stages...)
}

// lookedUp is how long was looked up what a judge looks at: all that is looked
// up together is known together. Called with s.mu held.
func (s *session) lookedUp(t *transaction, name string) time.Duration {
	var g *scouting
	switch name {
	case "rdns", "dnsbl":
		g = s.peerScout
	case "helo":
		g = s.heloScout
	case "sender", "spf", "rhsbl":
		g = t.scout
	case "dkim", "dmarc":
		return t.verified
	}
	if g == nil {
		return 0
	}
	return g.took
}

// weighFacts is weigh of facts that may end before the last recipient of t.
// Called with s.mu held.
func (s *session) weighFacts(t *transaction, f *Facts, c *Chain, stages ...[]Link) Weight {
	told := func(v Verdict) Verdict {
		if !v.passes() && (f.Spared() || (s.policy.Observe || c.Observe) && v.Reason.Spared()) {
			v.Detail = wouldHave(v)
			v.Action = reply.Log
		}
		return v
	}
	w := c.Weigh(f, stages...)
	v := told(w.Verdict)
	again := slices.ContainsFunc(t.Checks, func(c Check) bool { return c.Action == reply.Log && c.Reason == v.Reason })
	for _, said := range w.Said {
		t.note(said.Name, told(said.Verdict), said.Took+s.lookedUp(t, said.Name))
	}
	t.Score = max(t.Score, w.Score)
	if v.Reason == reply.Score {
		t.note(reply.Of(v.Reason).Check, v, 0)
	}
	if v.Action == reply.Log && !w.Verdict.passes() && !again { // it is weighed again at each stage
		s.spare(v.Reason)
	}
	w.Verdict = v
	return w
}
