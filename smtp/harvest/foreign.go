package harvest

import (
	"strings"

	"golang.org/x/net/publicsuffix"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// foreign takes in a recipient of a domain that we do not serve: whoever tries
// many of them looks for a relay.
//
// But anybody can name us as the MX of his domain, and then have honest hosts
// write to it: they bounce what he sends, or confirm what he signs up to. So a
// bounce is no offence, all names of one organisation are one domain, for those
// below it cost nothing, and who is vouched for needs as many as a known sender.
func (w *engine) foreign(e *event) (smtp.Conviction, bool) {
	if e.null || w.rules.ForeignPerHour <= 0 {
		return smtp.Conviction{}, false
	}
	n := w.rules.ForeignPerHour
	if !e.lenient.stranger() || e.src.Vouched {
		n *= 4
	}
	o := w.offend(e.source)
	addHit(&o.Foreign, w.hash(organisation(e.domain.name)), e.now, 4*w.rules.ForeignPerHour)
	e.source.guessed(e.to)
	if hitsWithin(o.Foreign, e.now, anHour) < n {
		return smtp.Conviction{}, false
	}
	return w.convict(e.now, e.source, e.lenient.tier, reply.RelayProbe, RuleForeign, hour, counts{}), true
}

// organisation is what somebody had to register of a domain. Names that a
// service gives away (the private part of the list) count as the service.
func organisation(name string) string {
	if strings.HasPrefix(name, "[") {
		return "[" // address literals: honest mail to one finds us, too
	}
	suffix, icann := publicsuffix.PublicSuffix(name)
	if !icann && strings.Contains(suffix, ".") {
		return suffix
	}
	if org, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return org
	}
	return name // a top-level domain
}
