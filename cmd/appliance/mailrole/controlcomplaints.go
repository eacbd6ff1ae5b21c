package mailrole

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/record"
	"mailweir/smtp"
)

// complain counts a complaint whose proof holds.
func (m *mailControl) complain(r *http.Request, q mailapi.Complaint) (mailapi.Complained, error) {
	why := "no such message was accepted here"
	for _, id := range q.Refs {
		story, err := m.store.Why(r.Context(), id.String(), 1)
		if err != nil {
			return mailapi.Complained{}, err
		}
		for _, raw := range story.Records {
			var l record.Line
			if err := json.Unmarshal(raw, &l); err != nil {
				return mailapi.Complained{}, err
			}
			var reporter string
			if reporter, why = proves(l, q); why == "" {
				return m.counted(mailapi.Complained{Addr: q.Addr, Ref: id, Reporter: reporter}, q.Retract), nil
			}
		}
	}
	return mailapi.Complained{}, control.Refusef("the complaint is not proven and does not count: %s", why)
}

// proves says who complains, or why the record is no proof.
func proves(l record.Line, q mailapi.Complaint) (reporter, why string) {
	if l.Outcome != smtp.Accepted && l.Outcome != smtp.Spooled {
		return "", "the message was not accepted"
	}
	if l.Peer.Unmap() != q.Addr {
		return "", fmt.Sprintf("the message came from %v", l.Peer)
	}
	got := took(l)
	if q.Reporter == "" {
		if len(got) == 1 {
			return got[0], ""
		}
		return "", "the message had several recipients: say who complains with --reporter"
	}
	for _, to := range got {
		if strings.EqualFold(to, q.Reporter) {
			return to, ""
		}
	}
	return "", "the message was not for " + q.Reporter
}

// took is who got the message, each once.
func took(l record.Line) (list []string) {
	for _, r := range l.Rcpts {
		if r.Reason == "" && !slices.Contains(list, r.To) {
			list = append(list, r.To)
		}
	}
	return list
}

func (m *mailControl) counted(d mailapi.Complained, retract bool) mailapi.Complained {
	if retract {
		d.Count, d.Need = m.watch.Retract(m.now(), d.Addr, d.Reporter)
		return d
	}
	d.Count, d.Need, d.Marked = m.watch.Complaint(m.now(), d.Addr, d.Reporter)
	return d
}
