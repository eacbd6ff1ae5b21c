package check

import (
	"fmt"
	"slices"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Geo judges the country and the network of the client, by geo.reject and
// geo.score.
type Geo struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j Geo) Judge(f *smtp.Facts) smtp.Verdict {
	if exempt(f) {
		return pass
	}
	var score float64
	var detail string
	for _, where := range []string{f.Country, asn(f.ASN)} {
		switch n := j.Policy.GeoScore[where]; {
		case where == "":
		case slices.Contains(j.Policy.GeoReject, where):
			v := j.Policy.weighed(reply.Geo, where, 0)
			if v.Action == reply.Pass && v.Reason != "" && v.Score == 0 {
				v.Action = reply.Reject // the list is the policy; [checks.set] may soften it
			}
			return v
		case n != 0:
			score += n
			detail += where + " "
		}
	}
	if score == 0 {
		return pass
	}
	return j.Policy.weighed(reply.Geo, detail[:len(detail)-1], score)
}

// GeoBan bans a source for its country or network, by geo.ban.
type GeoBan struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j GeoBan) Judge(f *smtp.Facts) smtp.Verdict {
	if exempt(f) || f.Tier == smtp.Provider {
		return pass
	}
	for _, where := range []string{f.Country, asn(f.ASN)} {
		if where != "" && slices.Contains(j.Policy.GeoBan, where) {
			return smtp.Verdict{Action: reply.Drop, Reason: reply.Geo, Reply: reply.Geo.Reply(), Detail: "geo.ban " + where}
		}
	}
	return pass
}

func asn(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("AS%d", n)
}
