package smtp

import (
	"sync"
	"time"
)

// order gives each thing that the watcher is told a moment of its own, so that
// a replay can tell it the same in the same order, which decides who of many is
// found out first. Records have whole milliseconds, and many things happen in
// one: it is microseconds, and where they do not suffice, the next that is free.
type order struct {
	mu   sync.Mutex
	last time.Time
}

// tell calls f, which tells the watcher of something now, and returns the
// moment that this has for its own.
func (o *order) tell(now time.Time, f func()) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at := now.Truncate(time.Microsecond); at.After(o.last) {
		o.last = at
	} else {
		o.last = o.last.Add(time.Microsecond)
	}
	f()
	return o.last
}
