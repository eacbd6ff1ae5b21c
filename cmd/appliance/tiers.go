package main

import (
	"net/netip"
	"sync/atomic"

	"mailweir/config"
	"mailweir/smtp"
	"mailweir/smtp/access"
)

// tiers says how well a source is known, as far as the file and the lists say it: whom the
// operator named there or let in by address, and this machine itself, are
// protected.
type tiers struct {
	protected atomic.Pointer[[]netip.Prefix]
	lists     smtp.Access // nil: nobody is on any
	providers finder      // nil: none is spared
}

// finder says whose network an address is in, and which.
type finder interface {
	Find(a netip.Addr) (name string, in netip.Prefix, ok bool)
}

func newTiers(cfg config.Config, lists smtp.Access) *tiers {
	t := &tiers{lists: lists}
	t.set(cfg)
	return t
}

func (t *tiers) set(cfg config.Config) {
	list := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	list = append(append(list, cfg.SMTP.Forwarders...), cfg.Firewall.NeverBan...)
	t.protected.Store(&list)
}

// Tier implements smtp.Tiers.
func (t *tiers) Tier(addr netip.Addr) smtp.Tier {
	for _, p := range *t.protected.Load() {
		if p.Contains(addr.Unmap()) {
			return smtp.Protected
		}
	}
	if t.lists != nil {
		if e, ok := t.lists.Find(access.Query{Peer: addr}); ok && e.Action == access.Allow {
			return smtp.Protected
		}
	}
	if t.Provider(addr) != "" {
		return smtp.Provider
	}
	return smtp.New
}

// Provider names the provider that has an address in its networks; "": none, or
// the operator blocks it by an entry that is as narrow.
func (t *tiers) Provider(addr netip.Addr) string {
	if t.providers == nil {
		return ""
	}
	name, in, ok := t.providers.Find(addr.Unmap())
	if !ok {
		return ""
	}
	if t.lists != nil {
		if e, ok := t.lists.Find(access.Query{Peer: addr}); ok && e.Feed == "" && e.Action == access.Block && e.Subject.Prefix.Bits() >= in.Bits() {
			return ""
		}
	}
	return name
}
