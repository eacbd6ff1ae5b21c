package record

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A store that somebody overwrites, cuts, replaces or removes while it is in
// use is set aside with an alarm; what the journal still has is in the fresh one
// at once, and after a restart.
func TestForeignWriteWhileRunning(t *testing.T) {
	noise := bytes.Repeat([]byte{0xA5, 0x17, 0x00, 0xFF}, 5000)
	for what, harm := range map[string]func(f *fixture, db string) error{
		"overwritten": func(f *fixture, db string) error {
			if err := drainQuery(f.db.write, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil { // else the log mends it
				return err
			}
			return writeAt(db, noise, 0)
		},
		"overwritten behind its head, log and all": func(_ *fixture, db string) error {
			if err := writeAt(db, noise, 200); err != nil {
				return err
			}
			return writeAt(db+"-wal", noise, 0)
		},
		"replaced": func(_ *fixture, db string) error {
			if err := os.WriteFile(db+".new", noise, 0o600); err != nil {
				return err
			}
			return os.Rename(db+".new", db)
		},
		"removed": func(_ *fixture, db string) error { return os.Remove(db) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			f := begin(t, dir, nil)
			x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
			f.Record(x)
			f.search(t, Query{}) // it is in SQLite
			if err := harm(f, filepath.Join(dir, "records.db")); err != nil {
				t.Fatal(err)
			}
			y := tx(start, "203.0.113.8", "a@b.example", "u2@example.com")
			f.Record(y)
			waitFor(t, "both records in the fresh store", func() bool { return len(f.search(t, Query{})) == 2 })
			if all := fmt.Sprint(f.alarms.said()); !strings.Contains(all, AlarmCorrupt+": ") {
				t.Errorf("no alarm: %s", all)
			}
			f.stop()
			f = begin(t, dir, nil)
			if got := f.search(t, Query{}); len(got) != 2 {
				t.Errorf("after a restart: found %v", got)
			}
		})
	}
}

// What somebody else did to the files that did no harm is no damage.
func TestTouchedStoreStays(t *testing.T) {
	dir := t.TempDir()
	f := begin(t, dir, nil)
	x := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	f.Record(x)
	f.search(t, Query{})
	old := start.AddDate(-1, 0, 0)
	if err := os.Chtimes(filepath.Join(dir, "records.db"), old, old); err != nil {
		t.Fatal(err)
	}
	y := tx(start, "203.0.113.8", "a@b.example", "u2@example.com")
	f.Record(y)
	if got := f.search(t, Query{}); len(got) != 2 {
		t.Errorf("found %v", got)
	}
	if all := f.alarms.said(); len(all) != 0 {
		t.Errorf("alarms %v", all)
	}
}

func writeAt(path string, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

// said is every alarm that was raised, over or not.
func (a *alarms) said() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}
