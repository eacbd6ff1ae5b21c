package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// migrations bring a database from version i to i+1; a new one runs them all.
// Only append.
//
// The id of a record is its time in ms, shifted by idShift, plus bits of its
// ref: so that every index is in order of time, and the oldest records are the
// first pages of the table. Keys of a record in rcpts and reasons are found
// again from its line when it is deleted.
var migrations = []string{`
CREATE TABLE records (
	id     INTEGER PRIMARY KEY,
	ref    INTEGER,
	peer   BLOB,    -- 16 bytes, IPv4 mapped
	sender TEXT,    -- lower case, '' is the null sender, NULL: no MAIL
	line   TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_ref ON records(ref);
CREATE INDEX records_peer ON records(peer);
CREATE INDEX records_sender ON records(sender) WHERE sender IS NOT NULL;
CREATE TABLE rcpts (
	rcpt   TEXT,    -- lower case
	record INTEGER,
	PRIMARY KEY (rcpt, record)
) STRICT, WITHOUT ROWID;
CREATE TABLE reasons (
	reason TEXT,    -- of the record, of its recipients, and of checks that only told
	record INTEGER,
	PRIMARY KEY (reason, record)
) STRICT, WITHOUT ROWID;
CREATE TABLE convictions (
	ref  INTEGER PRIMARY KEY,
	peer BLOB NOT NULL,
	time INTEGER NOT NULL, -- ms since 1970
	body TEXT NOT NULL     -- Conviction as JSON
) STRICT;
CREATE INDEX convictions_peer ON convictions(peer, time);
CREATE INDEX convictions_time ON convictions(time);
`}

const idShift = 20

func idOfTime(t time.Time) int64  { return t.UnixMilli() << idShift }
func timeOfID(id int64) time.Time { return time.UnixMilli(id >> idShift).UTC() }

// database is the SQLite file, opened when it is first needed, again after a
// failure, and anew after damage. Use is by with; the lock keeps everybody out
// while a damaged file is replaced.
type database struct {
	dir    string
	now    func() time.Time
	alarms Alarms

	mu     sync.RWMutex
	closed bool
	write  *sql.DB // one connection
	read   *sql.DB
	last   stamps // of the files, after the last write of ours
	fresh  int    // how often a store was begun in place of a damaged one
}

func (d *database) path() string  { return filepath.Join(d.dir, "records.db") }
func (d *database) aside() string { return d.path() + ".damaged-" }

// with runs use on the open database. A damaged one is set aside, an alarm
// raised, and use runs once more, on the fresh one.
func (d *database) with(use func(write, read *sql.DB) error) error {
	err := d.try(use)
	if !damaged(err) {
		return err
	}
	if aside := d.setAside(err); aside != nil {
		return errors.Join(err, aside)
	}
	return d.try(use)
}

func (d *database) try(use func(write, read *sql.DB) error) error {
	if err := d.open(); err != nil {
		return err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.write == nil {
		return errStopped
	}
	return use(d.write, d.read)
}

// damaged says whether err means that the file itself is no good, and not
// that the disk is full or slow.
func damaged(err error) bool {
	var e *sqlite.Error
	code := sqlite3.SQLITE_OK
	if errors.As(err, &e) {
		code = e.Code() & 0xff // without the extended part
	}
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB || errors.Is(err, errNewer) || errors.Is(err, errForeign)
}

var (
	errNewer   = errors.New("record store was written by a newer release")
	errStopped = errors.New("record store is closed: mailweir is stopping")
)

func (d *database) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errStopped
	}
	if d.write != nil {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make folder of records: %w", err)
	}
	write, err := d.connect("rwc", 1)
	if err != nil {
		return err
	}
	if err := migrate(write); err != nil {
		return errors.Join(err, write.Close())
	}
	read, err := d.connect("ro", 4)
	if err != nil {
		return errors.Join(err, write.Close())
	}
	d.write, d.read, d.last = write, read, d.stampFiles()
	return nil
}

// connect opens the file. Every commit is synced (FULL): a journal segment is
// removed after it.
func (d *database) connect(mode string, conns int) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(5000)", "auto_vacuum(incremental)", "journal_mode(wal)",
		"synchronous(full)", "wal_autocheckpoint(512)", "journal_size_limit(2097152)", "cache_size(-8192)",
	}}
	if mode == "ro" {
		q["_pragma"] = []string{"busy_timeout(5000)", "query_only(1)"}
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: d.path()}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open record store: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func migrate(db *sql.DB) error {
	var have int
	if err := db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("open record store: %w", err)
	}
	if have > len(migrations) {
		return fmt.Errorf("%w (format %d, this release knows %d)", errNewer, have, len(migrations))
	}
	for v := have; v < len(migrations); v++ {
		if err := inTx(db, func(tx *sql.Tx) error {
			_, err := tx.Exec(migrations[v] + fmt.Sprintf("PRAGMA user_version = %d;", v+1))
			return err
		}); err != nil {
			return fmt.Errorf("bring record store to format %d: %w", v+1, err)
		}
	}
	return nil
}

func inTx(db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// setAside renames the files of a store that cannot be read, under the time,
// so that the next open makes a fresh one. Of several such only the newest is
// kept.
func (d *database) setAside(cause error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fresh++
	err := d.closeLocked()
	for _, old := range d.damagedFiles() {
		err = errors.Join(err, os.Remove(old))
	}
	name := d.aside() + d.now().UTC().Format("20060102T150405Z")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if e := os.Rename(d.path()+suffix, name+suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
			return fmt.Errorf("set damaged record store aside: %w", e)
		}
	}
	d.alarms.Alarm(AlarmCorrupt, fmt.Sprintf("the record store could not be read (%v); it is set aside as %s and a fresh one begun. Remove that file when you do not need it", cause, name))
	if err != nil {
		return fmt.Errorf("set damaged record store aside: %w", err)
	}
	return nil
}

// begun is how often a fresh store took the place of a damaged one.
func (d *database) begun() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.fresh
}

func (d *database) damagedFiles() []string {
	names, _ := filepath.Glob(d.aside() + "*") // errs on bad patterns only
	return names
}

func (d *database) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.closeLocked()
}

func (d *database) closeLocked() error {
	if d.write == nil {
		return nil
	}
	err := errors.Join(d.read.Close(), d.write.Close())
	d.write, d.read = nil, nil
	if err != nil && !damaged(err) {
		return fmt.Errorf("close record store: %w", err)
	}
	return nil
}

// oldest returns the id of the oldest record, 0 for none.
func (d *database) oldest(ctx context.Context) (id int64, err error) {
	err = d.with(func(_, read *sql.DB) error {
		return read.QueryRowContext(ctx, "SELECT coalesce(min(id), 0) FROM records").Scan(&id)
	})
	return id, err
}

// folderSize sums the files in dir, in bytes.
func folderSize(dir string) int64 {
	var sum int64
	entries, _ := os.ReadDir(dir) // what is not there takes no room
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !strings.HasSuffix(e.Name(), "-shm") {
			sum += info.Size()
		}
	}
	return sum
}
