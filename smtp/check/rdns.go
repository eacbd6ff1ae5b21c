package check

import (
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// RDNS judges the name of the client's address: whether it has one, whether it
// resolves back to the address (FCrDNS, R-BW-13), and whether it is one that was
// made for a mail server, as far as its look tells (R-BW-14, R-BW-10).
type RDNS struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j RDNS) Judge(f *smtp.Facts) smtp.Verdict {
	r := f.RDNS
	if r == nil || exempt(f) {
		return pass
	}
	switch r.State {
	case smtp.NoRDNS:
		return j.Policy.failed(reply.RDNSMissing, f.Peer.String())
	case smtp.RDNSFailed:
		return j.Policy.failed(reply.RDNSError, f.Peer.String())
	}
	look := j.look(r)
	if r.State != smtp.Mismatched {
		return look
	}
	// A name that is generic besides says more than that it does not resolve;
	// what refuses by itself says most.
	if v := j.Policy.failed(reply.RDNSMismatch, r.Name); look.Reason == "" || heavier(v, look) {
		return v
	}
	return look
}

func (j RDNS) look(r *smtp.RDNS) smtp.Verdict {
	detail := r.Name
	if r.Pattern != "" {
		detail += " (" + r.Pattern + ")"
	}
	switch {
	case r.Class == "dynamic":
		return j.Policy.failed(reply.RDNSDynamic, detail)
	case r.Class == "generic" && countryName(r.Name):
		return j.Policy.failed(reply.RDNSGenericCC, detail)
	case r.Class == "generic":
		return j.Policy.failed(reply.RDNSGeneric, detail)
	}
	return pass
}

// heavier says whether v weighs more than w.
func heavier(v, w smtp.Verdict) bool {
	rank := map[reply.Action]int{reply.Defer: 1, reply.Reject: 2}
	if a, b := rank[v.Action], rank[w.Action]; a != b {
		return a > b
	}
	return v.Score > w.Score
}

// countryName says whether a name ends in the domain of a country: two letters
// (ISO 3166-1), or what they are internationalised as.
func countryName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	return len(last) == 2 || strings.HasPrefix(last, "xn--")
}
