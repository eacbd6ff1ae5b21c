package record

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// WouldBan is a source that would have been banned, had the system not observed
// only: by its first conviction, which the others repeat.
type WouldBan struct {
	Source  netip.Prefix `json:"source"` // an IPv4 address, or an IPv6 /64
	Peer    netip.Addr   `json:"peer"`   // the address that was convicted first
	First   Time         `json:"first"`
	Last    Time         `json:"last"`
	Times   int          `json:"times"` // it was convicted
	Ref     ref.Ref      `json:"ref"`   // of the first, as the evidence below
	Reason  reply.Reason `json:"reason"`
	Rule    string       `json:"rule"`
	Window  string       `json:"window,omitempty"`
	Unknown int          `json:"unknown"`
	Valid   int          `json:"valid"`
	Guesses []string     `json:"guesses,omitempty"`
	Tier    smtp.Tier    `json:"tier,omitempty"` // when it was convicted
	// Accepted is how many of its messages were accepted in the same time: mail
	// that a ban would have kept out, or that came before it.
	Accepted  int  `json:"accepted"`
	KnownGood bool `json:"known_good"` // by its tier, or because mail of it was accepted
}

// Would lists who would have been banned since a moment, had the system not
// observed only, in the order of their first convictions.
func (s *Store) Would(ctx context.Context, since time.Time) ([]WouldBan, error) {
	if err := s.Flush(ctx); err != nil {
		return nil, err
	}
	// The text that newConviction writes; a body that has it elsewhere is sorted
	// out below.
	all, err := s.queryConvictions(ctx, `time >= ? AND body LIKE '%"left":"observe"%' ORDER BY time, ref`, since.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("look for convictions: %w", err)
	}
	list, place := []WouldBan{}, map[netip.Prefix]int{}
	for _, c := range all {
		if c.Left != smtp.LeftObserve {
			continue
		}
		p := sourceOf(c.Peer)
		i, ok := place[p]
		if !ok {
			i, place[p] = len(list), len(list)
			list = append(list, WouldBan{
				Source: p, Peer: c.Peer, First: c.Time, Ref: c.Ref, Reason: c.Reason, Rule: c.Rule, Window: c.Window,
				Unknown: c.Unknown, Valid: c.Valid, Guesses: c.Guesses, Tier: c.Tier,
			})
		}
		list[i].Last = c.Time
		list[i].Times++
	}
	return list, s.accepted(ctx, list, since)
}

// sourceOf is what one ban would have hit.
func sourceOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// accepted counts the mail of each source that was accepted.
func (s *Store) accepted(ctx context.Context, list []WouldBan, since time.Time) error {
	err := s.db.with(func(_, read *sql.DB) error {
		for i := range list {
			w := &list[i]
			low, high := prefixRange(w.Source)
			if err := read.QueryRowContext(ctx, `SELECT count(*) FROM records
				WHERE peer BETWEEN ? AND ? AND id >= ? AND line ->> '$.outcome' IN (?, ?)`,
				low, high, idOfTime(since), string(smtp.Accepted), string(smtp.Spooled)).Scan(&w.Accepted); err != nil {
				return err
			}
			w.KnownGood = w.Accepted > 0 || w.Tier == smtp.Known || w.Tier == smtp.Trusted
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count accepted mail: %w", err)
	}
	return nil
}
