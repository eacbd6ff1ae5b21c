package settings

import (
	"net/netip"
	"sync/atomic"

	"mailweir/config"
	"mailweir/smtp"
	"mailweir/smtp/access"
)

// Tiers says how well a source is known, as far as the file and the lists say it: whom the
// operator named there or let in by address, and this machine itself, are
// protected.
type Tiers struct {
	protected atomic.Pointer[[]netip.Prefix]
	lists     smtp.Access // nil: nobody is on any
	Providers Finder      // nil: none is spared
}

// Finder says whose network an address is in, and which.
type Finder interface {
	Find(a netip.Addr) (name string, in netip.Prefix, ok bool)
}

func NewTiers(cfg config.Config, lists smtp.Access) *Tiers {
	t := &Tiers{lists: lists}
	t.Set(cfg)
	return t
}

func (t *Tiers) Set(cfg config.Config) {
	list := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	list = append(append(list, cfg.SMTP.Forwarders...), cfg.Firewall.NeverBan...)
	t.protected.Store(&list)
}

// Tier implements smtp.Tiers.
func (t *Tiers) Tier(addr netip.Addr) smtp.Tier {
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
func (t *Tiers) Provider(addr netip.Addr) string {
	if t.Providers == nil {
		return ""
	}
	name, in, ok := t.Providers.Find(addr.Unmap())
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
