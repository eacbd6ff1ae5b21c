package record

import (
	"database/sql"
	"fmt"
	"math"
	"os"
	"time"
)

const (
	pruneEvery = 40   // ticks: 10 s
	retryEvery = 8    // ticks between two tries to commit while SQLite refuses
	pruneStep  = 1000 // records deleted in one transaction
)

// tick is what happens every commitEvery.
func (ix *index) tick() {
	ix.ticks++
	if !ix.failing || ix.ticks%retryEvery == 0 {
		ix.commit()
	}
	if ix.ticks%pruneEvery == 0 || ix.unpruned && ix.ticks%retryEvery == 0 {
		ix.prune()
	}
}

// prune holds the limits: the age of records and evidence, then the room that
// all files together take.
func (ix *index) prune() {
	s := ix.store
	err := s.db.with(func(write, _ *sql.DB) error {
		if err := s.pruneAge(write); err != nil {
			return err
		}
		return s.pruneSize(write)
	})
	s.ills.report("prune", err)
	ix.unpruned = err != nil
	if lost := s.count.dropped.Load(); lost == ix.lost {
		s.alarms.Clear(AlarmLost, fmt.Sprintf("%d records were lost since the start", lost))
	} else {
		ix.lost = lost
	}
	if len(s.db.damagedFiles()) == 0 {
		s.alarms.Clear(AlarmCorrupt, "the damaged store was removed")
	}
}

// pruneAge deletes records older than Keep. Evidence stays as long as the
// longest ban that it can stand for, and Keep.
func (s *Store) pruneAge(write *sql.DB) error {
	keep := time.Duration(s.keep.Load())
	if keep == 0 {
		return nil
	}
	now := s.now()
	for {
		n, err := deleteOldest(write, idOfTime(now.Add(-keep)))
		if err != nil {
			return fmt.Errorf("delete old records: %w", err)
		}
		if n < pruneStep {
			break
		}
	}
	banned := time.Duration(s.banMax.Load())
	if _, err := write.Exec("DELETE FROM convictions WHERE time < ?", now.Add(-keep-banned).UnixMilli()); err != nil {
		return fmt.Errorf("delete old evidence: %w", err)
	}
	return s.shrink(write)
}

// pruneSize deletes the oldest records once the files take more than 95 % of
// MaxSize, until they take 85 %: then SQLite has room again without the file
// growing. A store that was set aside goes first. Evidence goes only when no
// record is left.
func (s *Store) pruneSize(write *sql.DB) error {
	limit := s.max.Load()
	if folderSize(s.dir) <= limit/100*95 {
		return nil
	}
	for _, name := range s.db.damagedFiles() {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove damaged record store: %w", err)
		}
	}
	if err := s.shrink(write); err != nil {
		return err
	}
	for folderSize(s.dir) > limit/100*85 {
		n, err := deleteOldest(write, math.MaxInt64)
		if err == nil && n == 0 {
			n, err = deleteEvidence(write)
		}
		if err != nil {
			return fmt.Errorf("delete oldest records: %w", err)
		}
		if err := s.shrink(write); err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// deleteOldest deletes up to pruneStep records with ids under limit.
func deleteOldest(write *sql.DB, limit int64) (n int, err error) {
	err = inTx(write, func(tx *sql.Tx) error {
		ids, err := queryIDs(tx, "SELECT id FROM records WHERE id < ? ORDER BY id LIMIT ?", limit, pruneStep)
		if err != nil {
			return err
		}
		n = len(ids)
		del, err := prepareDelete(tx)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := del.delete(id); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

func deleteEvidence(write *sql.DB) (int, error) {
	res, err := write.Exec("DELETE FROM convictions WHERE ref IN (SELECT ref FROM convictions ORDER BY time LIMIT ?)", pruneStep)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

func queryIDs(tx *sql.Tx, query string, args ...any) ([]int64, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// shrink gives pages that hold nothing back to the file system, when they are
// worth it, and empties SQLite's write-ahead log.
func (s *Store) shrink(write *sql.DB) error {
	var free, page int64
	if err := write.QueryRow("PRAGMA freelist_count").Scan(&free); err != nil {
		return fmt.Errorf("shrink record store: %w", err)
	}
	if err := write.QueryRow("PRAGMA page_size").Scan(&page); err != nil {
		return fmt.Errorf("shrink record store: %w", err)
	}
	over := folderSize(s.dir) > s.max.Load()/100*85
	if free*page < 1<<20 && !over {
		return nil
	}
	for _, q := range []string{"PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		if err := drainQuery(write, q); err != nil {
			return fmt.Errorf("shrink record store: %w", err)
		}
	}
	return nil
}

// drainQuery runs q to its end: incremental_vacuum frees one page a row.
func drainQuery(db *sql.DB, q string) error {
	rows, err := db.Query(q)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}
