package record

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

const (
	pruneEvery  = 40   // ticks: 10 s
	commitEvery = 4    // ticks between two commits to SQLite: the journal has it all, and who searches has it committed first
	retryEvery  = 8    // the same while SQLite refuses
	pruneStep   = 1000 // records deleted in one transaction
	pruneSteps  = 5    // transactions between two commits of new records
)

// tick is what happens every tickEvery.
func (ix *index) tick() {
	ix.ticks++
	ix.rewrite()
	if ix.ticks%commitEvery == 0 && !ix.failing || ix.ticks%retryEvery == 0 {
		ix.commit()
	}
	if ix.ticks%pruneEvery == 0 || ix.more || ix.unpruned && ix.ticks%retryEvery == 0 {
		ix.prune()
	}
}

// prune holds the limits: the age of records and evidence, then the room that
// all files together take. It does no more at a time than commits can wait
// for; ix.more says that it is not done.
func (ix *index) prune() {
	s := ix.store
	err := s.db.update(func(write *sql.DB) (err error) {
		if ix.more, err = s.pruneAge(write); ix.more || err != nil {
			return err
		}
		ix.more, err = s.pruneSize(write, &ix.over)
		return err
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
func (s *Store) pruneAge(write *sql.DB) (more bool, err error) {
	keep := time.Duration(s.keep.Load())
	if keep == 0 {
		return false, nil
	}
	now := s.now()
	n := pruneStep
	for i := 0; i < pruneSteps && n == pruneStep; i++ {
		if n, err = deleteOldest(write, idOfTime(now.Add(-keep))); err != nil {
			return false, fmt.Errorf("delete old records: %w", err)
		}
	}
	banned := time.Duration(s.banMax.Load())
	if _, err := write.Exec("DELETE FROM convictions WHERE time < ?", now.Add(-keep-banned).UnixMilli()); err != nil {
		return false, fmt.Errorf("delete old evidence: %w", err)
	}
	return n == pruneStep, s.shrink(write)
}

// pruneSize deletes the oldest records once the files take more than 95 % of
// MaxSize (over), until they take 85 %: then SQLite has room again without the
// file growing. A store that was set aside goes first. Evidence goes only when
// no record is left.
func (s *Store) pruneSize(write *sql.DB, over *bool) (more bool, err error) {
	size, limit := folderSize(s.dir), s.max.Load()
	*over = size > limit/100*95 || *over && size > limit/100*85
	if !*over {
		return false, nil
	}
	if old := s.db.damagedFiles(); len(old) > 0 {
		for _, name := range old {
			err = errors.Join(err, os.Remove(name))
		}
		return err == nil, err
	}
	n := 1
	for i := 0; i < pruneSteps && n > 0 && folderSize(s.dir) > limit/100*85; i++ {
		if n, err = deleteOldest(write, math.MaxInt64); err == nil && n == 0 {
			n, err = deleteEvidence(write)
		}
		if err != nil {
			return false, fmt.Errorf("delete oldest records: %w", err)
		}
		if err := s.shrink(write); err != nil {
			return false, err
		}
	}
	return n > 0, nil
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
