package check

import (
	"net/netip"
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// HELO judges what the client calls itself. Its syntax, the wire judges.
type HELO struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j HELO) Judge(f *smtp.Facts) smtp.Verdict {
	name := strings.TrimSuffix(strings.ToLower(f.HELO), ".")
	if name == "" || exempt(f) {
		return pass
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if a.Unmap() == f.Listener.Addr() && a.Unmap() != f.Peer {
			return j.Policy.failed(reply.HELOOurs, f.HELO)
		}
		return j.Policy.failed(reply.HELOAddress, f.HELO)
	}
	if strings.HasPrefix(name, "[") {
		return j.literal(f, name)
	}
	switch {
	case j.ours(f, name):
		return j.Policy.failed(reply.HELOOurs, f.HELO)
	case !strings.Contains(name, "."):
		return j.Policy.failed(reply.HELOUnresolvable, f.HELO+" has no dot")
	case f.HELOName == smtp.HELOMissing:
		return j.Policy.failed(reply.HELOUnresolvable, f.HELO)
	}
	return pass
}

// ours says whether a name is ours. One of a domain that we serve may be that
// of its own server outside, which then resolves to it.
func (j HELO) ours(f *smtp.Facts, name string) bool {
	if name == strings.ToLower(j.Policy.Hostname) {
		return true
	}
	elsewhere := f.HELOName == smtp.HELOOther || f.HELOName == smtp.HELOMissing
	return elsewhere && j.Policy.Served != nil && j.Policy.Served(name)
}

// literal judges an address literal (RFC 5321 section 4.1.3).
func (j HELO) literal(f *smtp.Facts, name string) smtp.Verdict {
	text := strings.TrimPrefix(strings.Trim(name, "[]"), "ipv6:")
	a, err := netip.ParseAddr(text)
	switch {
	case err == nil && a.Unmap() == f.Peer:
		return pass
	case err == nil && a.Unmap() == f.Listener.Addr():
		return j.Policy.failed(reply.HELOOurs, f.HELO)
	}
	return j.Policy.failed(reply.HELOLiteral, f.HELO)
}
