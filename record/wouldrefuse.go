package record

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// WouldRefuse is what one check would have done to the mail of one domain, had it
// not only observed, or been set to log.
type WouldRefuse struct {
	Check   string `json:"check"`
	Domain  string `json:"domain"`
	Refused int    `json:"refused"` // transactions that it would have refused
	Later   int    `json:"later"`   // that it would have put off
	Logged  int    `json:"logged"`  // in which it failed while set to log
	Sources int    `json:"sources"` // addresses of those
	// Good is how many of the transactions came from a source that was known to be
	// good then, Accepted how many were accepted all the same.
	Good     int `json:"good"`
	Accepted int `json:"accepted"`

	Last   Time       `json:"last"`
	Ref    string     `json:"ref"` // of the last, see weir why
	Peer   netip.Addr `json:"peer"`
	Sender *string    `json:"sender,omitempty"`
}

// mostSources bounds what is remembered to count addresses: a report of what a
// botnet sent is no less useful without the last digit.
const mostSources = 100_000

// WouldRefuse sums up, since a moment, what checks only told that they would have
// done, most first.
func (s *Store) WouldRefuse(ctx context.Context, since time.Time) ([]WouldRefuse, error) {
	type key struct{ check, domain string }
	type source struct {
		key
		peer netip.Addr
	}
	rows, seen := map[key]*WouldRefuse{}, map[source]bool{}
	for raw, err := range s.Search(ctx, Query{Since: since}) {
		if err != nil {
			return nil, err
		}
		var l Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, fmt.Errorf("read a record: %w", err)
		}
		told := l.told()
		if len(told) == 0 {
			continue
		}
		for _, domain := range l.judgedDomains() {
			for check, would := range told {
				k := key{check, domain}
				w := rows[k]
				if w == nil {
					w = &WouldRefuse{Check: check, Domain: domain, Last: l.Time, Ref: l.Ref, Peer: l.Peer, Sender: l.MailFrom}
					rows[k] = w
				}
				w.count(&l, would)
				if one := (source{k, l.Peer}); !seen[one] && len(seen) < mostSources {
					seen[one] = true
					w.Sources++
				}
			}
		}
	}
	list := []WouldRefuse{}
	for _, w := range rows {
		list = append(list, *w)
	}
	slices.SortFunc(list, func(a, b WouldRefuse) int {
		return cmp.Or(cmp.Compare(b.total(), a.total()), cmp.Compare(a.Check, b.Check), cmp.Compare(a.Domain, b.Domain))
	})
	return list, nil
}

func (w *WouldRefuse) total() int { return w.Refused + w.Later + w.Logged }

// count takes in a transaction.
func (w *WouldRefuse) count(l *Line, would reply.Action) {
	switch would {
	case reply.Defer:
		w.Later++
	case reply.Log:
		w.Logged++
	default:
		w.Refused++
	}
	if l.Tier == smtp.Known || l.Tier == smtp.Trusted || l.Tier == smtp.Provider {
		w.Good++
	}
	if l.Outcome == smtp.Accepted || l.Outcome == smtp.Spooled {
		w.Accepted++
	}
}

// told is what the checks of a transaction would have done: Log for one that is
// set to.
func (l *Line) told() map[string]reply.Action {
	var told map[string]reply.Action
	for _, c := range l.Checks {
		if c.Action != reply.Log {
			continue
		}
		would := reply.Log
		if what, is := strings.CutPrefix(c.Detail, "would "); is {
			what, _, _ = strings.Cut(what, ":")
			would = reply.Action(what)
		} else if !slices.Contains(reply.Settable(), c.Name) {
			continue // it tells of something, and refuses never
		}
		if told == nil {
			told = map[string]reply.Action{}
		}
		if had, ok := told[c.Name]; !ok || had == reply.Log {
			told[c.Name] = would
		}
	}
	return told
}

// judgedDomains are those of the recipients to whom refusals of policy are
// spoken. A connection that named none is everybody's.
func (l *Line) judgedDomains() (domains []string) {
	if len(l.Rcpts) == 0 {
		return []string{""}
	}
	for i := range l.Rcpts {
		to := strings.ToLower(l.Rcpts[i].To)
		if domain := to[strings.LastIndexByte(to, '@')+1:]; !smtp.IsPostmaster(to) && l.Rcpts[i].Route != "" && !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	return domains
}
