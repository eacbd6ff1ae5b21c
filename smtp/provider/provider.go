// Package provider finds the networks that large mail providers send from, by the
// SPF records that they publish for all who receive from them.
//
// What a record says is anybody's word: only what is plain is read of it (ip4,
// ip6, a, mx, include, redirect, with their passes), what a macro or exists could
// name is nobody's network, and a set that is wider than a provider can be is
// refused whole.
package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"mailweir/prefix"
)

// DNS is who is asked. Each method fails also where nothing is known; no records
// are no failure.
type DNS interface {
	Text(ctx context.Context, name string) ([]string, error)
	Addrs(ctx context.Context, name string) ([]netip.Addr, error)
	Exchangers(ctx context.Context, name string) ([]string, error)
}

// Bounds of a set. RFC 7208 section 4.6.4 has ten look-ups for who checks one
// sender; who wants all of it reads more, since providers end at that limit.
const (
	mostLookups  = 60
	deepest      = 8
	mostPrefixes = 4000
	widest4      = 12        // bits of the widest IPv4 prefix that is believed
	widest6      = 28        // and of IPv6
	mostShare    = 1.0 / 512 // of all addresses: eight million of IPv4, several times what any has
)

// Domains are the domains whose SPF records name a provider's networks: those of
// its own mail and of its customers'.
func Domains(name string) []string {
	switch name {
	case "google":
		return []string{"_spf.google.com"}
	case "microsoft":
		return []string{"spf.protection.outlook.com", "outlook.com"}
	case "yahoo":
		return []string{"_spf.mail.yahoo.com"}
	case "apple":
		return []string{"icloud.com"}
	}
	return []string{name}
}

// ErrNoRecord says that there is nothing to read: no such name, or no SPF record.
var ErrNoRecord = errors.New("has no SPF record")

// Networks looks up a provider's set. With an error there is none.
func Networks(ctx context.Context, dns DNS, name string) (*prefix.Set, error) {
	w := walk{ctx: ctx, dns: dns, seen: map[string]bool{}}
	for _, d := range Domains(name) {
		if err := w.record(d, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", d, err)
		}
	}
	set := prefix.New(w.found)
	switch share := set.Share(); {
	case set.Len() == 0:
		return nil, errors.New("its SPF record names no networks")
	case share > mostShare:
		return nil, fmt.Errorf("its SPF record has %.1f %% of all addresses, which no provider has", 100*share)
	}
	return set, nil
}

// walk is the way through the records.
type walk struct {
	ctx     context.Context
	dns     DNS
	seen    map[string]bool
	lookups int
	found   []netip.Prefix
}

// record reads the record of a domain. One that was read is not read again, and
// so no loop goes on.
func (w *walk) record(domain string, depth int) error {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if w.seen[domain] {
		return nil
	}
	w.seen[domain] = true
	if depth > deepest {
		return fmt.Errorf("%s is more than %d records deep", domain, deepest)
	}
	if err := w.count(); err != nil {
		return err
	}
	texts, err := w.dns.Text(w.ctx, domain)
	if err != nil {
		return err
	}
	var record string
	for _, t := range texts {
		if version, rest, _ := strings.Cut(t, " "); strings.EqualFold(version, "v=spf1") {
			if record != "" {
				return fmt.Errorf("%s has two SPF records", domain)
			}
			record = rest + " "
		}
	}
	if record == "" {
		return fmt.Errorf("%s %w", domain, ErrNoRecord)
	}
	redirect, all := "", false
	for _, term := range strings.Fields(record) {
		if to, ok := strings.CutPrefix(strings.ToLower(term), "redirect="); ok {
			redirect = to
			continue
		}
		all = all || strings.EqualFold(strings.TrimLeft(term, "+-~?"), "all")
		if err := w.term(domain, strings.ToLower(term), depth); err != nil {
			return err
		}
	}
	if redirect != "" && !all && !strings.Contains(redirect, "%") {
		return w.record(redirect, depth+1)
	}
	return nil
}

func (w *walk) count() error {
	if w.lookups++; w.lookups > mostLookups {
		return fmt.Errorf("it takes more than %d look-ups", mostLookups)
	}
	return nil
}

// term takes in one mechanism (RFC 7208 section 5).
func (w *walk) term(domain, term string, depth int) error {
	if strings.ContainsAny(term[:1], "-~?") || strings.Contains(term, "%") {
		return nil // no pass, or of a macro
	}
	term = strings.TrimPrefix(term, "+")
	name, value, _ := strings.Cut(term, ":")
	switch name {
	case "ip4", "ip6":
		return w.literal(domain, value)
	case "include":
		return w.record(value, depth+1)
	case "all":
		return fmt.Errorf("%s lets everybody pass", domain)
	}
	name, bits4, bits6, err := lengths(name, &value)
	if err != nil {
		return fmt.Errorf("%s: %q: %w", domain, term, err)
	}
	if value == "" {
		value = domain
	}
	switch name {
	case "a":
		return w.host(value, bits4, bits6)
	case "mx":
		if err := w.count(); err != nil {
			return err
		}
		hosts, err := w.dns.Exchangers(w.ctx, value)
		if err != nil {
			return err
		}
		for _, h := range hosts {
			if err := w.host(h, bits4, bits6); err != nil {
				return err
			}
		}
	}
	return nil // exists and ptr name no network, and modifiers say nothing of one
}

// lengths takes the dual CIDR lengths off a or mx (RFC 7208 section 5.3).
func lengths(name string, value *string) (mechanism string, bits4, bits6 int, err error) {
	at := value
	if *value == "" {
		at = &name
	}
	bits4, bits6 = 32, 128
	host, lengths, _ := strings.Cut(*at, "/")
	*at = host
	four, six, _ := strings.Cut(lengths, "//")
	if strings.HasPrefix(lengths, "/") {
		four, six = "", lengths[1:]
	}
	if four != "" {
		bits4, err = strconv.Atoi(four)
	}
	if err == nil && six != "" {
		bits6, err = strconv.Atoi(six)
	}
	return name, bits4, bits6, err
}

func (w *walk) host(name string, bits4, bits6 int) error {
	if err := w.count(); err != nil {
		return err
	}
	addrs, err := w.dns.Addrs(w.ctx, name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		bits := bits4
		if a.Unmap().Is6() {
			bits = bits6
		}
		p, err := a.Unmap().Prefix(bits)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := w.add(name, p); err != nil {
			return err
		}
	}
	return nil
}

// literal takes in the value of ip4 or ip6.
func (w *walk) literal(domain, value string) error {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		a, single := netip.ParseAddr(value)
		if single != nil {
			return fmt.Errorf("%s: %w", domain, err)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return w.add(domain, prefix.Canonical(p))
}

// add takes in a network, unless it is wider than any provider's.
func (w *walk) add(domain string, p netip.Prefix) error {
	widest := widest4
	if p.Addr().Is6() {
		widest = widest6
	}
	switch {
	case !p.IsValid() || p.Bits() < widest:
		return fmt.Errorf("%s names %v, which is wider than any provider's network", domain, p)
	case len(w.found) >= mostPrefixes:
		return fmt.Errorf("it has more than %d networks", mostPrefixes)
	}
	w.found = append(w.found, p)
	return nil
}
