package record

import (
	"database/sql"
	"net/netip"
	"slices"
	"strings"

	"mailweir/ref"
	"mailweir/smtp/reply"
)

// The keys that records are found by. Mailboxes are compared without regard to
// case, as people search for them.

func nullRef(r ref.Ref) sql.NullInt64 { return sql.NullInt64{Int64: int64(r), Valid: r != 0} }

func peerKey(a netip.Addr) []byte {
	if !a.IsValid() {
		return nil
	}
	b := a.As16()
	return b[:]
}

func senderKey(from *string) sql.NullString {
	if from == nil {
		return sql.NullString{}
	}
	return sql.NullString{String: mailboxKey(*from), Valid: true}
}

func mailboxKey(s string) string { return strings.ToLower(strings.ToValidUTF8(s, "\uFFFD")) }

func rcptKeys(l *Line) []string {
	var keys []string
	for i := range l.Rcpts {
		keys = append(keys, mailboxKey(l.Rcpts[i].To))
	}
	return distinct(keys)
}

func reasonKeys(l *Line) []string {
	var keys []string
	if l.Reason != nil && *l.Reason != "" {
		keys = append(keys, string(*l.Reason))
	}
	for i := range l.Rcpts {
		if r := l.Rcpts[i].Reason; r != "" {
			keys = append(keys, string(r))
		}
	}
	return distinct(append(keys, l.OnlyTold()...))
}

// OnlyTold are the reasons for which nothing was refused, since observe, or a
// check that is set to log, only told them.
func (l *Line) OnlyTold() (reasons []string) {
	for i := range l.Checks {
		if c := &l.Checks[i]; c.Action == reply.Log && c.Reason != "" && (l.Reason == nil || *l.Reason != c.Reason) {
			reasons = append(reasons, string(c.Reason))
		}
	}
	return distinct(reasons)
}

func distinct(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
