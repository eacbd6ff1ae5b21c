package record

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Run writes what is recorded until ctx ends, then what still waits, and
// closes the files. What SQLite would not take by then stays in the journal
// for the next Open. A Store runs once.
func (s *Store) Run(ctx context.Context) error {
	s.running.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.keepIndex()
	}()
	s.keepJournal(ctx)
	close(s.staged)
	<-done
	s.running.Store(false)
	return s.db.close()
}

// keepJournal takes entries from the sessions, appends them to the journal in
// groups, lets go of those who wait, and hands the group on.
func (s *Store) keepJournal(ctx context.Context) {
	tick := time.NewTicker(retryEvery * tickEvery)
	defer tick.Stop()
	for {
		select {
		case e := <-s.in:
			s.journalBatch(s.collect(e))
		case <-tick.C:
			if s.ills.has("journal") {
				s.write(appendEntry(nil, probe, nil), true)
			}
		case <-ctx.Done():
			s.lastBatches()
			return
		}
	}
}

// lastBatches writes what waits at the end.
func (s *Store) lastBatches() {
	for {
		select {
		case e := <-s.in:
			s.journalBatch(s.collect(e))
		default:
			s.retireSegment()
			return
		}
	}
}

// collect takes what waits behind e, up to a batch.
func (s *Store) collect(e *entry) []*entry {
	batch := []*entry{e}
	for len(batch) < maxBatch {
		select {
		case e := <-s.in:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

func (s *Store) journalBatch(batch []*entry) {
	var b []byte
	wanted := false // somebody waits, or a ban rests on it
	for _, e := range batch {
		if e.kind == 0 {
			continue
		}
		if err := s.encode(e); err != nil {
			s.drop(1, err.Error())
			e.kind = 0
			continue
		}
		b = appendEntry(b, e.kind, e.body)
		wanted = wanted || e.safe != nil || e.kind == convicted
	}
	s.release(batch, s.write(b, wanted))
	s.staged <- batch
	if s.journal.size > min(maxSegment, s.max.Load()/16) {
		s.retireSegment()
	}
}

// encode fills e.body, and e.line where e has one.
func (s *Store) encode(e *entry) (err error) {
	if e.kind == convicted {
		e.body, err = json.Marshal(&e.conv)
	} else {
		e.line = NewLine(&e.tx, s.node)
		e.body, err = e.line.MarshalJSON()
	}
	if err != nil {
		return fmt.Errorf("write down record: %w", err)
	}
	return nil
}

func (s *Store) write(b []byte, sync bool) error {
	if len(b) == 0 {
		return nil
	}
	err := s.journal.append(b)
	if err == nil && sync {
		if err = s.journal.sync(); err != nil {
			s.retireSegment() // after a failed sync nobody knows what the file holds
		}
	}
	s.ills.report("journal", err)
	return err
}

// release lets go of the sessions that wait for the journal, also after a
// failure: a reply is never held back by a sick disk.
func (s *Store) release(batch []*entry, err error) {
	for _, e := range batch {
		if e.safe == nil {
			continue
		}
		if err != nil {
			s.count.unsafe.Add(1)
		}
		close(e.safe)
	}
	s.late.Store(false)
}

// retireSegment begins a new segment; the old one goes when SQLite has it.
func (s *Store) retireSegment() {
	path, err := s.journal.rotate()
	s.ills.report("rotation", err)
	if path != "" {
		s.staged <- []*entry{{retire: path}}
	}
}

// Flush returns when everything recorded before is in SQLite, where Search
// finds it. Unless Run runs, there is nothing to wait for.
func (s *Store) Flush(ctx context.Context) error {
	if !s.running.Load() {
		return nil
	}
	e := &entry{flush: make(chan struct{})}
	select {
	case s.in <- e:
	case <-ctx.Done():
		return fmt.Errorf("write waiting records: %w", ctx.Err())
	}
	select {
	case <-e.flush:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write waiting records: %w", ctx.Err())
	}
}

// keepIndex takes groups from the journal and commits them to SQLite. While
// SQLite refuses, it keeps taking: what waits is bounded by enqueue.
func (s *Store) keepIndex() {
	ix := index{store: s, begun: s.db.begun()}
	ix.prune()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case batch, more := <-s.staged:
			if !more {
				ix.commit()
				return
			}
			if ix.take(batch) {
				ix.commit()
			}
		case <-tick.C:
			ix.tick()
		}
	}
}

// recover takes the segments that a former run left into SQLite.
func (s *Store) recover() {
	paths, err := s.journal.segments()
	s.ills.report("recovery", err)
	ix := index{store: s}
	for _, path := range paths {
		n, err := readSegment(path, func(k kind, body []byte) { ix.restore(k, body) })
		if err != nil {
			s.ills.report("recovery", err)
			continue
		}
		if n > 1 { // one is the line that the crash tore
			s.drop(n, "lines of the journal were damaged")
		}
		ix.take([]*entry{{retire: path}})
		ix.commit()
	}
}
