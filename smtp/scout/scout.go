// Package scout looks up what the network says of a client: the name of its
// address and whether that resolves back, what DNS lists say of the address and
// of the names that it comes with, what HELO resolves to, whether the sender's
// domain can be written back to, and SPF.
//
// It gathers facts and judges nobody. A fact is absent where our own resolver is
// sick, where the client left before it was known, and where a list cannot be
// believed (see Lists); what fails though our resolver is well is told as such.
package scout

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"

	"mailweir/dns"
	"mailweir/smtp"
	"mailweir/smtp/address"
)

// Options are what a Scout is made with.
type Options struct {
	DNS   *dns.Resolver
	Lists *Lists // nil: none is asked
	// Classify says what kind of name an address has, and by which pattern;
	// nil: the class stays untold.
	Classify func(name string, addr netip.Addr) (class, pattern string)
	Clock    func() time.Time // nil: time.Now
}

// Scout implements smtp.Scout.
type Scout struct {
	dns      *dns.Resolver
	lists    *Lists
	classify func(string, netip.Addr) (string, string)
	without  without
}

// New returns a Scout.
func New(o Options) *Scout {
	s := &Scout{dns: o.DNS, lists: o.Lists, classify: o.Classify, without: without{now: o.Clock, since: map[string]time.Time{}}}
	if s.without.now == nil {
		s.without.now = time.Now
	}
	if s.lists == nil {
		s.lists = &Lists{}
	}
	return s
}

const (
	lookUp   = 2 * time.Second // for one name or list
	mostPTRs = 10              // names of one address that are looked at
)

// Peer implements smtp.Scout.
func (s *Scout) Peer(ctx context.Context, peer netip.Addr) (rdns *smtp.RDNS, found []smtp.Listing) {
	peer = peer.Unmap().WithZone("")
	var lists group
	if s.lists.any(false) {
		lists.Go(func() { found = s.lists.peer(ctx, peer) })
	}
	var named []smtp.Listing
	if rdns = s.rdns(ctx, peer); rdns != nil && rdns.State == smtp.Confirmed {
		named = s.lists.domain(ctx, rdns.Name)
	}
	lists.Wait()
	return rdns, append(found, named...)
}

// rdns is what reverse DNS says of an address; nil: nobody of ours knows.
func (s *Scout) rdns(ctx context.Context, peer netip.Addr) *smtp.RDNS {
	ctx, cancel := context.WithTimeout(ctx, lookUp)
	defer cancel()
	names, a := s.dns.Reverse(ctx, peer, dns.Names)
	switch {
	case unknown(ctx, a):
		return nil
	case a.State == dns.Failed:
		return &smtp.RDNS{State: smtp.RDNSFailed}
	case a.State.No():
		return &smtp.RDNS{State: smtp.NoRDNS, Class: "none"}
	}
	r := s.confirm(ctx, names[:min(len(names), mostPTRs)], peer)
	if r != nil && r.Name != "" && s.classify != nil {
		r.Class, r.Pattern = s.classify(r.Name, peer)
	}
	return r
}

// confirm looks for a name that resolves back to the address.
func (s *Scout) confirm(ctx context.Context, names []string, peer netip.Addr) *smtp.RDNS {
	states := make([]smtp.RDNSState, len(names))
	var all group
	for i, name := range names {
		all.Go(func() {
			addrs, a := s.dns.Family(ctx, name, peer, dns.Names)
			switch {
			case unknown(ctx, a):
			case slices.Contains(addrs, peer):
				states[i] = smtp.Confirmed
			case a.State == dns.Failed:
				states[i] = smtp.RDNSFailed
			default:
				states[i] = smtp.Mismatched
			}
		})
	}
	all.Wait()
	for _, want := range []smtp.RDNSState{smtp.Confirmed, "", smtp.RDNSFailed, smtp.Mismatched} {
		if i := slices.Index(states, want); i >= 0 && want == "" {
			return nil
		} else if i >= 0 {
			return &smtp.RDNS{Name: names[i], State: want}
		}
	}
	return nil
}

// unknown says whether an answer tells nothing: our resolver is sick, or the
// client left and nobody waits any more.
func unknown(ctx context.Context, a dns.Answer) bool {
	return a.State == dns.Sick || a.State == dns.Failed && context.Cause(ctx) == context.Canceled
}

// HELO implements smtp.Scout. An address or a name without a dot resolves to
// nothing, and nobody is asked for it.
func (s *Scout) HELO(ctx context.Context, peer netip.Addr, helo string) (smtp.HELOName, []smtp.Listing) {
	name, err := address.ParseDomain(strings.TrimSuffix(helo, "."), true)
	if err != nil || !strings.Contains(name, ".") {
		return "", nil
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", nil
	}
	var lists group
	var found []smtp.Listing
	if s.lists.any(true) {
		lists.Go(func() { found = s.lists.domain(ctx, name) })
	}
	addrs, a := s.dns.Addrs(ctx, name, dns.HELO)
	lists.Wait()
	switch {
	case unknown(ctx, a):
		return "", found
	case slices.Contains(addrs, peer.Unmap().WithZone("")):
		return smtp.HELOPeer, found
	case a.State == dns.Found:
		return smtp.HELOOther, found
	case a.State == dns.Failed:
		return smtp.HELOFailed, found
	}
	return smtp.HELOMissing, found
}

// Sender implements smtp.Scout.
func (s *Scout) Sender(ctx context.Context, peer netip.Addr, helo, from string) (domain smtp.SenderDomain, spf smtp.SPF, found []smtp.Listing) {
	var all group
	if d := from[strings.LastIndexByte(from, '@')+1:]; d != "" {
		all.Go(func() { domain = s.senderDomain(ctx, d) })
		if s.lists.any(true) {
			all.Go(func() { found = s.lists.domain(ctx, d) })
		}
	}
	spf = s.spf(ctx, peer, helo, from)
	all.Wait()
	return domain, spf, found
}

// senderDomain says how mail can be sent back (RFC 5321 section 5.1).
func (s *Scout) senderDomain(ctx context.Context, domain string) smtp.SenderDomain {
	name, err := idna.Lookup.ToASCII(domain)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "" // a literal, or a name that DNS has no form for
	}
	ctx, cancel := context.WithTimeout(ctx, 2*lookUp)
	defer cancel()
	mx, a := s.dns.Exchangers(ctx, name, dns.Domain)
	switch {
	case unknown(ctx, a):
		return ""
	case errors.Is(a.Err, dns.ErrNoProof):
		switch _, b := s.dns.Addrs(ctx, name, dns.Domain); {
		case unknown(ctx, b):
			return ""
		case b.State == dns.Found:
			return smtp.SenderOK // its servers know addresses only, and mail goes there (RFC 5321 section 5.1)
		}
		return smtp.SenderFailed
	case a.State == dns.Failed:
		return smtp.SenderFailed
	case a.State == dns.NoName:
		return smtp.SenderNXDomain
	case a.State == dns.Found && len(mx) == 1 && mx[0].Host == "":
		return smtp.SenderNullMX
	case a.State == dns.Found:
		return smtp.SenderOK
	}
	switch _, a := s.dns.Addrs(ctx, name, dns.Domain); {
	case unknown(ctx, a):
		return ""
	case a.State == dns.Failed:
		return smtp.SenderFailed
	case a.State == dns.Found && s.without.lately(name):
		return smtp.SenderNoMXYet
	case a.State == dns.Found:
		return smtp.SenderNoMX
	}
	return smtp.SenderNXDomain
}

// without knows since when domains have been seen without MX record, so that
// one that is being set up is not refused for good (R-BW-E19).
type without struct {
	now   func() time.Time
	mu    sync.Mutex
	since map[string]time.Time
}

const (
	firstSight   = 10 * time.Minute
	mostWithout  = 20_000
	keepsWithout = 24 * time.Hour
)

// lately says whether a domain was first seen so a short while ago.
func (w *without) lately(domain string) bool {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	since, seen := w.since[domain]
	if seen && now.Sub(since) < keepsWithout {
		return now.Sub(since) < firstSight
	}
	if len(w.since) >= mostWithout {
		clear(w.since)
	}
	w.since[domain] = now
	return true
}
