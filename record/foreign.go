package record

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// SQLite does not notice that somebody else overwrites its files while it has
// them open: it goes on from what it has in memory, and the next start finds
// nothing that it can read. Only the one goroutine that commits and prunes
// writes them, so it looks at them before it does, and remembers how they were
// after.

// errForeign is a store that is not the one we wrote.
var errForeign = errors.New("somebody else wrote or removed the files of the record store")

// stamp is what a write by anybody else changes of a file.
type stamp struct {
	info fs.FileInfo // nil: there is none
	size int64
	time time.Time
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info, info.Size(), info.ModTime()}
}

// moved says that another file, or none, stands in the place of s.
func (s stamp) moved(now stamp) bool {
	return s.info != nil && (now.info == nil || !os.SameFile(s.info, now.info))
}

func (s stamp) same(now stamp) bool {
	return !s.moved(now) && s.size == now.size && s.time.Equal(now.time)
}

// stamps are those of the database and of its write-ahead log.
type stamps [2]stamp

func (d *database) stampFiles() stamps { return stamps{stampOf(d.path()), stampOf(d.path() + "-wal")} }

// update is with for what writes. A store that is not ours any more counts as
// damaged. Only one goroutine calls it.
func (d *database) update(change func(write *sql.DB) error) error {
	return d.with(func(write, _ *sql.DB) error {
		if err := d.untouched(); err != nil {
			return err
		}
		err := change(write)
		d.last = d.stampFiles()
		return err
	})
}

// untouched says that the files are as the last update left them, or that what
// somebody else did to them did no harm.
func (d *database) untouched() error {
	now := d.stampFiles()
	if d.last[0].same(now[0]) && d.last[1].same(now[1]) {
		return nil
	}
	if d.last[0].moved(now[0]) || d.last[1].moved(now[1]) {
		return errForeign
	}
	return d.sound()
}

// sound reads the whole store from the disk, past what SQLite has in memory.
func (d *database) sound() error {
	fresh, err := d.connect("ro", 1)
	if err != nil {
		return err
	}
	defer fresh.Close()
	var first string
	if err := fresh.QueryRow("PRAGMA quick_check(1)").Scan(&first); err != nil {
		return fmt.Errorf("check record store: %w", err)
	}
	if first != "ok" {
		return fmt.Errorf("%w: %s", errForeign, first)
	}
	return nil
}
