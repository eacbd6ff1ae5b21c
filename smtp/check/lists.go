package check

import (
	"net/netip"
	"strings"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Lists judges what the DNS lists answered: of the client's address, or with
// Domains of the names that it came with (R-BW-08). Each documented answer
// counts once, by the scores that policy has now; lists that allow subtract
// (R-BW-25), and no list is ever the only reason for a ban.
type Lists struct {
	Policy  Policy
	Domains bool
}

// Judge implements smtp.Judge.
func (j Lists) Judge(f *smtp.Facts) smtp.Verdict {
	if exempt(f) {
		return pass
	}
	if f.Tier == smtp.Provider && !j.Domains {
		v := pass
		if len(f.Lists) > 0 {
			v.Detail = "not asked of " + f.Provider
		}
		return v
	}
	total, worst := 0.0, hit{}
	var all []string
	for i := range f.Lists {
		h, ok := j.hit(f, &f.Lists[i])
		if !ok {
			continue
		}
		total += h.score
		all = append(all, h.String())
		if h.score > worst.score {
			worst = h
		}
	}
	reason := reply.DNSBL
	if j.Domains {
		reason = reply.RHSBL
	}
	switch detail := strings.Join(all, ", "); {
	case len(all) == 0:
		return pass
	case total <= 0: // allowed, or allowed again
		return smtp.Verdict{Action: reply.Pass, Reason: reason, Score: total, Detail: detail}
	default:
		v := j.Policy.weighed(reason, detail, total)
		v.Reply = worst.say(v.Reply)
		return v
	}
}

// hit is one answer that counts.
type hit struct {
	list  *List
	entry *smtp.Listing
	peer  netip.Addr
	score float64
}

// hit finds what an answer means under this policy.
func (j Lists) hit(f *smtp.Facts, e *smtp.Listing) (hit, bool) {
	if (e.About != "") != j.Domains {
		return hit{}, false
	}
	answer, err := netip.ParseAddr(e.Answer)
	if err != nil {
		return hit{}, false
	}
	for i := range j.Policy.Lists {
		l := &j.Policy.Lists[i]
		if l.Name != e.Name || l.Domain != j.Domains {
			continue
		}
		score, documented := l.Score(answer)
		return hit{l, e, f.Peer, score}, documented
	}
	return hit{}, false
}

func (h hit) String() string {
	s := h.list.Name + " " + h.entry.Answer
	if h.entry.About != "" {
		s += " " + h.entry.About
	}
	return s
}

// say is the reply that names the list, its answer, its own words and where to
// look it up (R-BW-E11, R-BW-21), or the operator's words (R-BX-03).
func (h hit) say(r reply.Reply) reply.Reply {
	subject := h.entry.About
	if subject == "" {
		subject = h.peer.String()
	}
	page := strings.NewReplacer("%{addr}", subject, "%{domain}", subject).Replace(h.list.Lookup)
	if h.list.Reply != "" {
		text := strings.NewReplacer("%ip", subject, "%list", h.list.Name, "%code", h.entry.Answer, "%url", page).Replace(h.list.Reply)
		r.Text = ""
		r = r.Detail(text)
		r.Text = strings.TrimPrefix(r.Text, ": ")
		return r
	}
	detail := subject + " is listed by " + h.list.Name + " (" + h.entry.Answer + ")"
	if h.entry.Text != "" {
		detail += ", which says: " + clip(h.entry.Text, 120)
	}
	if page != "" {
		detail += "; see " + page
	}
	return r.Detail(detail)
}

// clip cuts a stranger's text, so that what stands behind it is still said.
func clip(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
