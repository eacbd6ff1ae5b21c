package record

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
func (s *Store) convictions(ctx context.Context, q Query, refs []ref.Ref) (all []Conviction, err error) {
	if q.Addr.IsValid() {
		low, high := prefixRange(q.Addr)
		all, err = s.queryConvictions(ctx, "peer BETWEEN ? AND ?", low, high)
	} else {
		all, err = s.byRef(ctx, append(slices.Clone(refs), q.Ref))
	}
	slices.SortFunc(all, func(a, b Conviction) int {
		return cmp.Or(b.Time.Compare(a.Time.Time), cmp.Compare(a.Ref, b.Ref))
	})
	return all, err
}

// Evidence yields what is kept under the refs of bans; of some there may be
// nothing.
func (s *Store) Evidence(ctx context.Context, refs []ref.Ref) iter.Seq2[Conviction, error] {
	return func(yield func(Conviction, error) bool) {
		if err := s.Flush(ctx); err != nil {
			yield(Conviction{}, err)
			return
		}
		for some := range slices.Chunk(refs, page) {
			found, err := s.byRef(ctx, some)
			if err != nil {
				yield(Conviction{}, fmt.Errorf("look for evidence: %w", err))
				return
			}
			for _, c := range found {
				if !yield(c, nil) {
					return
				}
			}
		}
	}
}

// Conviction returns the evidence that is kept under the ref of one ban.
func (s *Store) Conviction(ctx context.Context, r ref.Ref) (Conviction, bool, error) {
	for c, err := range s.Evidence(ctx, []ref.Ref{r}) {
		return c, err == nil, err
	}
	return Conviction{}, false, nil
}

func (s *Store) byRef(ctx context.Context, refs []ref.Ref) ([]Conviction, error) {
	args := make([]any, len(refs))
	for i, r := range refs {
		args[i] = int64(r)
	}
	return s.queryConvictions(ctx, "ref IN (?"+strings.Repeat(",?", len(refs)-1)+")", args...)
}

func (s *Store) queryConvictions(ctx context.Context, where string, args ...any) (all []Conviction, err error) {
	err = s.db.with(func(_, read *sql.DB) error {
		all = []Conviction{}
		rows, err := read.QueryContext(ctx, "SELECT body FROM convictions WHERE "+where, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var body []byte
			var c Conviction
			if err := rows.Scan(&body); err != nil {
				return err
			}
			if err := json.Unmarshal(body, &c); err != nil {
				return fmt.Errorf("read evidence: %w", err)
			}
			all = append(all, c)
		}
		return rows.Err()
	})
	return all, err
}
