package record

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// R-CX-05: records end with Keep, or never; evidence outlives the ban by Keep.
func TestRetention(t *testing.T) {
	const day = 24 * time.Hour
	f := begin(t, t.TempDir(), nil)
	old := tx(start, "203.0.113.7", "a@b.example", "u1@example.com")
	old.Checks = []smtp.Check{{Name: "rdns_missing", Action: reply.Log, Reason: reply.RDNSMissing}}
	young := tx(start.Add(20*day), "203.0.113.8", "a@b.example", "u1@example.com")
	f.Record(old)
	f.Record(young)
	f.Convicted(old.Facts.Ref, old.Facts.Peer, start, harvest, true)
	f.search(t, Query{})

	f.clock.add(31 * day)
	f.pruneAll()
	if got := f.search(t, Query{}); !same(got, refs(young, old)) {
		t.Fatalf("kept for ever: found %v", got)
	}
	f.SetLimits(30*day, 14*day, 0)
	f.pruneAll()
	if got := f.search(t, Query{}); !same(got, refs(young)) {
		t.Errorf("after 31 days: found %v", got)
	}
	if got := f.search(t, Query{Rcpt: "u1@example.com"}); !same(got, refs(young)) {
		t.Errorf("after 31 days: found %v by recipient", got)
	}
	if n := f.keysLeft(t, "reasons"); n != 2 {
		t.Errorf("after 31 days: %d reasons are left of a record that has two", n)
	}
	if _, ok, err := f.Conviction(context.Background(), old.Facts.Ref); !ok || err != nil {
		t.Errorf("the evidence of a ban that may stand is gone: %v", err)
	}
	f.clock.add(14 * day)
	f.pruneAll()
	if _, ok, _ := f.Conviction(context.Background(), old.Facts.Ref); ok {
		t.Error("the evidence outlives ban and retention")
	}
}

// The files together never take more than MaxSize for long, oldest first out.
func TestSizeCap(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a store in one goroutine: -short (make race) leaves that to make test")
	}
	dir := t.TempDir()
	f := begin(t, dir, func(o *Options) { o.MaxSize = minSize })
	var last smtp.Transaction
	for i := range 12 {
		for j := range 1000 {
			last = tx(start.Add(time.Duration(i*1000+j)*time.Second), "203.0.113.7", "a@b.example", fmt.Sprintf("u%d@example.com", j))
			last.Facts.HELO = strings.Repeat("x", 2500)
			f.Record(last)
		}
		f.search(t, Query{Limit: 1})
		f.pruneAll()
		if size := folderSize(dir); size > minSize+maxSegment {
			t.Fatalf("%d bytes on disk, the cap is %d", size, minSize)
		}
	}
	got := f.search(t, Query{})
	if len(got) < 2000 || len(got) == 12_000 || got[0] != last.Facts.Ref.String() {
		t.Errorf("%d records are left, the newest is %s, want %s", len(got), got[0], last.Facts.Ref)
	}
	if st := f.Stats(context.Background()); st.Bytes > minSize/100*95 || st.Dropped != 0 {
		t.Errorf("stats %+v", st)
	}
	if n := f.keysLeft(t, "rcpts"); n > len(got) {
		t.Errorf("%d recipients are left for %d records", n, len(got))
	}
}

// pruneAll does at once what the store does over several ticks.
func (f *fixture) pruneAll() {
	ix := index{store: f.Store}
	for ix.prune(); ix.more; ix.prune() {
	}
}

func (f *fixture) keysLeft(t *testing.T, table string) (n int) {
	t.Helper()
	if err := f.db.open(); err != nil {
		t.Fatal(err)
	}
	if err := f.db.read.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
