package record

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"mailweir/ref"
)

// index brings entries from the journal into SQLite. An announced transaction
// waits for its end, which most often comes within the same second, so that
// SQLite sees it once; it goes in as it is when its segment of the journal is
// to be removed, or when somebody searches.
type index struct {
	store   *Store
	open    map[ref.Ref]*entry // announced, not ended
	ready   []*entry           // to be inserted
	retire  []string           // segments that can go after the next commit
	flush   []chan struct{}
	weight  int64 // of ready
	failing bool  // the last commit failed
	ticks   int
	begun   int // of the database that has all of the journal

	unpruned bool   // the last prune failed
	more     bool   // the last prune left work for the next tick
	over     bool   // too much is stored, until pruneSize is done
	lost     uint64 // counters.dropped when prune last looked
}

// take sorts a batch in, and says whether it is time to commit.
func (ix *index) take(batch []*entry) (due bool) {
	for _, e := range batch {
		switch {
		case e.retire != "":
			ix.retire = append(ix.retire, e.retire)
			ix.addOpen()
		case e.flush != nil:
			ix.flush = append(ix.flush, e.flush)
			ix.addOpen()
			due = true
		case e.kind == announced:
			if ix.open == nil {
				ix.open = map[ref.Ref]*entry{}
			}
			ix.forget(e.tx.Facts.Ref)
			ix.open[e.tx.Facts.Ref] = e
		case e.kind == recorded:
			ix.forget(e.tx.Facts.Ref)
			ix.add(e)
		case e.kind == convicted:
			ix.add(e)
		}
	}
	return due || len(ix.ready) >= maxBatch && !ix.failing
}

func (ix *index) add(e *entry) {
	ix.ready = append(ix.ready, e)
	ix.weight += e.weight
}

// forget drops an announcement whose transaction ended.
func (ix *index) forget(r ref.Ref) {
	if e := ix.open[r]; e != nil {
		ix.store.queued.Add(-e.weight)
		delete(ix.open, r)
	}
}

// addOpen makes the announced ones ready as they are.
func (ix *index) addOpen() {
	for _, e := range ix.open {
		ix.add(e)
	}
	clear(ix.open)
}

// restore takes an entry that was read back from the journal.
func (ix *index) restore(k kind, body []byte) {
	e := &entry{kind: k, body: slices.Clone(body)}
	var err error
	switch k {
	case announced, recorded:
		if err = json.Unmarshal(body, &e.line); err == nil {
			e.tx.Facts.Ref = lenientRef(e.line.Ref)
		}
	case convicted:
		err = json.Unmarshal(body, &e.conv)
	case probe:
		return
	default:
		err = fmt.Errorf("entry of unknown kind %q", k)
	}
	if err != nil {
		ix.store.drop(1, "an entry of the journal could not be read: "+err.Error())
		return
	}
	if ix.take([]*entry{e}) {
		ix.commit()
	}
}

// rewrite puts what the journal still has into a store that was begun in place
// of a damaged one: that is everything of the last minutes.
func (ix *index) rewrite() {
	begun := ix.store.db.begun()
	if begun == ix.begun {
		return
	}
	ix.begun = begun
	paths, err := segmentPaths(ix.store.dir)
	for _, path := range paths {
		_, e := readSegment(path, ix.restore) // its last line may be half written yet: it comes by itself
		if !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	ix.store.ills.report("rewrite", err)
	ix.commit()
}

// commit inserts what is ready, in one transaction, then removes the journal
// segments that are not needed any more. When SQLite refuses, everything stays
// for the next time.
func (ix *index) commit() {
	if len(ix.ready) == 0 && len(ix.retire) == 0 && len(ix.flush) == 0 {
		return
	}
	err := ix.store.db.update(func(write *sql.DB) error { return inTx(write, ix.insertAll) })
	ix.store.ills.report("commit", err)
	for _, done := range ix.flush { // also after a failure: a search then shows what there is
		close(done)
	}
	ix.flush = nil
	if ix.failing = err != nil; !ix.failing {
		ix.committed()
	}
}

func (ix *index) committed() {
	s := ix.store
	for _, path := range ix.retire {
		s.ills.report("rotation", os.Remove(path))
	}
	s.count.recorded.Add(uint64(len(ix.ready)))
	s.queued.Add(-ix.weight)
	clear(ix.ready)
	ix.ready, ix.retire, ix.weight = ix.ready[:0], nil, 0
}

func (ix *index) insertAll(tx *sql.Tx) error {
	in, err := prepareInsert(tx)
	if err != nil {
		return err
	}
	for _, e := range ix.ready {
		if e.kind == convicted {
			err = in.conviction(e)
		} else {
			err = in.line(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inserter has the statements of one transaction.
type inserter struct {
	tx                              *sql.Tx
	record, rcpt, reason, convicted *sql.Stmt
}

func prepareInsert(tx *sql.Tx) (in inserter, err error) {
	in.tx = tx
	return in, prepareAll(tx, []statement{
		{&in.record, "INSERT INTO records (id, ref, peer, sender, line) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"},
		{&in.rcpt, "INSERT OR IGNORE INTO rcpts (rcpt, record) VALUES (?, ?)"},
		{&in.reason, "INSERT OR IGNORE INTO reasons (reason, record) VALUES (?, ?)"},
		{&in.convicted, "INSERT OR REPLACE INTO convictions (ref, peer, time, body) VALUES (?, ?, ?, ?)"},
	})
}

// line inserts a record. One with the same ref is replaced, unless e is only
// the announcement of it.
func (in *inserter) line(e *entry) error {
	r := e.tx.Facts.Ref
	id := idOfTime(e.line.Time.Time) | int64(r)&(1<<idShift-1)
	for {
		res, err := in.record.Exec(id, nullRef(r), peerKey(e.line.Peer), senderKey(e.line.MailFrom), string(e.body))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return errors.Join(err, in.keys(id, &e.line))
		}
		old, err := in.find(r)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			id++ // another record of the same ms took the id
		case err != nil:
			return err
		case e.kind == announced:
			return nil
		default:
			del, err := prepareDelete(in.tx)
			if err := errors.Join(err, del.delete(old)); err != nil {
				return err
			}
		}
	}
}

func (in *inserter) find(r ref.Ref) (id int64, err error) {
	err = in.tx.QueryRow("SELECT id FROM records WHERE ref = ?", nullRef(r)).Scan(&id)
	return id, err
}

// keys makes the record findable by recipient and reason.
func (in *inserter) keys(id int64, l *Line) error {
	for _, k := range rcptKeys(l) {
		if _, err := in.rcpt.Exec(k, id); err != nil {
			return err
		}
	}
	for _, k := range reasonKeys(l) {
		if _, err := in.reason.Exec(k, id); err != nil {
			return err
		}
	}
	return nil
}

func (in *inserter) conviction(e *entry) error {
	c := &e.conv
	_, err := in.convicted.Exec(int64(c.Ref), peerKey(c.Peer), c.Time.UnixMilli(), string(e.body))
	return err
}
