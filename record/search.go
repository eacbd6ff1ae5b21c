package record

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"strings"
	"time"

	"mailweir/ref"
)

// Query says which records are wanted: those that fit every field that is not
// zero.
type Query struct {
	Since  time.Time // from this moment on
	Until  time.Time // before this moment
	Reason string    // of the record, of one of its recipients, or of what was only told
	Sender string    // "<>" is the null sender
	Rcpt   string
	Addr   netip.Prefix
	Ref    ref.Ref
	Limit  int // 0: all
}

// page is how many records one read of the database takes: a search for
// everything then never holds back the write-ahead log.
const page = 500

// Search yields the records that q asks for, newest first, each as it was
// written (one JSON object without line feed). What is still on its way to the
// store is waited for.
func (s *Store) Search(ctx context.Context, q Query) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		if err := s.Flush(ctx); err != nil {
			yield(nil, err)
			return
		}
		for f, err := range s.find(ctx, q) {
			if !yield(f.line, err) {
				return
			}
		}
	}
}

type found struct {
	id   int64
	line json.RawMessage
}

// find reads page by page what Search asks for; an error is the last.
func (s *Store) find(ctx context.Context, q Query) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		before, left := q.ceiling(), q.Limit
		for {
			want := page
			if q.Limit > 0 {
				want = min(page, left)
			}
			some, err := s.page(ctx, q, before, want)
			if err != nil {
				yield(found{}, fmt.Errorf("search records: %w", err))
				return
			}
			for _, f := range some {
				if !yield(f, nil) {
					return
				}
				before = f.id
			}
			if left -= len(some); len(some) < want || left == 0 {
				return
			}
		}
	}
}

func (s *Store) page(ctx context.Context, q Query, before int64, limit int) (all []found, err error) {
	query, args := q.sql(before, limit)
	err = s.db.with(func(_, read *sql.DB) error {
		all = nil
		rows, err := read.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var f found
			var line string
			if err := rows.Scan(&f.id, &line); err != nil {
				return err
			}
			f.line = json.RawMessage(line)
			all = append(all, f)
		}
		return rows.Err()
	})
	return all, err
}

// ceiling is the id that every wanted record is under.
func (q *Query) ceiling() int64 {
	if q.Until.IsZero() {
		return math.MaxInt64
	}
	return idOfTime(q.Until)
}

// sql writes the query for records with ids under before. The key that narrows
// most (a recipient, a reason) drives, in the order of ids; the rest filters.
func (q *Query) sql(before int64, limit int) (string, []any) {
	from := "records r"
	var where []string
	var args []any
	and := func(cond string, a ...any) {
		where = append(where, cond)
		args = append(args, a...)
	}
	id := "r.id"
	switch {
	case q.Ref != 0 || q.Addr.IsValid() || q.Sender != "":
	case q.Rcpt != "":
		from, id = "rcpts k CROSS JOIN records r ON r.id = k.record", "k.record"
		and("k.rcpt = ?", mailboxKey(q.Rcpt))
	case q.Reason != "":
		from, id = "reasons k CROSS JOIN records r ON r.id = k.record", "k.record"
		and("k.reason = ?", q.Reason)
	}
	and(id+" < ?", before)
	if !q.Since.IsZero() {
		and(id+" >= ?", idOfTime(q.Since))
	}
	if q.Ref != 0 {
		and("r.ref = ?", int64(q.Ref))
	}
	if q.Addr.IsValid() {
		low, high := prefixRange(q.Addr)
		if q.Addr.IsSingleIP() {
			and("r.peer = ?", low) // its index entries are in order of time
		} else {
			and("r.peer BETWEEN ? AND ?", low, high)
		}
	}
	if q.Sender != "" {
		and("r.sender = ?", mailboxKey(strings.TrimSuffix(strings.TrimPrefix(q.Sender, "<"), ">")))
	}
	if q.Rcpt != "" && id == "r.id" {
		and("EXISTS (SELECT 1 FROM rcpts WHERE rcpt = ? AND record = r.id)", mailboxKey(q.Rcpt))
	}
	if q.Reason != "" && !strings.HasPrefix(from, "reasons") {
		and("EXISTS (SELECT 1 FROM reasons WHERE reason = ? AND record = r.id)", q.Reason)
	}
	return fmt.Sprintf("SELECT r.id, r.line FROM %s WHERE %s ORDER BY %s DESC LIMIT %d",
		from, strings.Join(where, " AND "), id, limit), args
}

// prefixRange is the first and last key of a prefix.
func prefixRange(p netip.Prefix) (low, high []byte) {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	a := p.Masked().Addr().As16()
	b := a
	for i := bits; i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return a[:], b[:]
}
