package record

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mailweir/ref"
)

// Story is everything that is kept of a ref, an address or a mailbox.
type Story struct {
	Convictions []Conviction      `json:"convictions"` // newest first
	Records     []json.RawMessage `json:"records"`     // newest first
}

// ErrSubject says that a text is neither ref nor address nor mailbox.
var ErrSubject = errors.New("neither a ref like K7QM-2V9D-4XTR, nor an address or prefix, nor a mailbox")

// Why tells what is kept of a ref, an address or prefix, or a mailbox (as
// sender or as recipient): at most limit records, and the evidence of every
// conviction that belongs to them or to the address.
func (s *Store) Why(ctx context.Context, subject string, limit int) (Story, error) {
	queries, err := queriesOf(strings.TrimSpace(subject), limit)
	if err != nil {
		return Story{}, err
	}
	if err := s.Flush(ctx); err != nil {
		return Story{}, err
	}
	records, err := s.newest(ctx, queries, limit)
	if err != nil {
		return Story{}, err
	}
	story := Story{Convictions: []Conviction{}, Records: []json.RawMessage{}}
	for _, f := range records {
		story.Records = append(story.Records, f.line)
	}
	if story.Convictions, err = s.convictions(ctx, queries[0], refsOf(records)); err != nil {
		return Story{}, fmt.Errorf("look for evidence: %w", err)
	}
	return story, nil
}

func queriesOf(subject string, limit int) ([]Query, error) {
	if r, err := ref.Parse(subject); err == nil {
		return []Query{{Ref: r, Limit: limit}}, nil
	}
	if p, err := ParsePrefix(subject); err == nil {
		return []Query{{Addr: p, Limit: limit}}, nil
	}
	if strings.Contains(subject, "@") || subject == "<>" {
		return []Query{{Sender: subject, Limit: limit}, {Rcpt: strings.Trim(subject, "<>"), Limit: limit}}, nil
	}
	return nil, fmt.Errorf("%q is %w", subject, ErrSubject)
}

// ParsePrefix reads an address, as the prefix that holds it alone, or a
// prefix.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// newest merges the answers to several queries.
func (s *Store) newest(ctx context.Context, queries []Query, limit int) ([]found, error) {
	var all []found
	for _, q := range queries {
		for f, err := range s.find(ctx, q) {
			if err != nil {
				return nil, err
			}
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(b.id, a.id) })
	all = slices.CompactFunc(all, func(a, b found) bool { return a.id == b.id })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all, nil
}

func refsOf(records []found) []ref.Ref {
	var refs []ref.Ref
	for _, f := range records {
		var l struct{ Ref string }
		if json.Unmarshal(f.line, &l) == nil {
			refs = append(refs, lenientRef(l.Ref))
		}
	}
	return refs
}

// convictions finds evidence by the address or ref of q and by refs, newest
// first.
func (s *Store) convictions(ctx context.Context, q Query, refs []ref.Ref) ([]Conviction, error) {
	all := []Conviction{}
	err := s.db.with(func(_, read *sql.DB) (err error) {
		all = all[:0]
		if q.Addr.IsValid() {
			low, high := prefixRange(q.Addr)
			all, err = queryConvictions(ctx, read, all, "peer BETWEEN ? AND ?", low, high)
			return err
		}
		for _, r := range append(slices.Clone(refs), q.Ref) {
			if all, err = queryConvictions(ctx, read, all, "ref = ?", int64(r)); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Conviction) int {
		return cmp.Or(b.Time.Compare(a.Time.Time), cmp.Compare(a.Ref, b.Ref))
	})
	return slices.CompactFunc(all, func(a, b Conviction) bool { return a.Ref == b.Ref }), err
}

// Conviction returns the evidence that is kept under the ref of a ban.
func (s *Store) Conviction(ctx context.Context, r ref.Ref) (Conviction, bool, error) {
	if err := s.Flush(ctx); err != nil {
		return Conviction{}, false, err
	}
	all, err := s.convictions(ctx, Query{Ref: r}, nil)
	if err != nil || len(all) == 0 {
		return Conviction{}, false, err
	}
	return all[0], true, nil
}

func queryConvictions(ctx context.Context, read *sql.DB, to []Conviction, where string, args ...any) ([]Conviction, error) {
	rows, err := read.QueryContext(ctx, "SELECT body FROM convictions WHERE "+where, args...)
	if err != nil {
		return to, err
	}
	defer rows.Close()
	for rows.Next() {
		var body []byte
		var c Conviction
		if err := rows.Scan(&body); err != nil {
			return to, err
		}
		if err := json.Unmarshal(body, &c); err != nil {
			return to, fmt.Errorf("read evidence: %w", err)
		}
		to = append(to, c)
	}
	return to, rows.Err()
}
