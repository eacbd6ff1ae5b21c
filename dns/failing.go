package dns

import (
	"sync"
	"time"
)

const (
	failsFor    = time.Hour // how long a question that failed is known for it
	mostFailing = 20_000
)

// failing are questions that failed of late though there was a way out. When one
// fails again, it is its name's fault still, and nobody is asked for a way out:
// most of what fails is what failed before.
type failing struct {
	mu    sync.Mutex
	since map[question]time.Time
}

func (f *failing) note(q question, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since == nil || len(f.since) >= mostFailing {
		f.since = map[question]time.Time{}
	}
	f.since[q] = now
}

// lately says whether a question failed a while ago.
func (f *failing) lately(q question, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.since[q]
	return ok && now.Sub(t) < failsFor
}

// found ends what was known of a question.
func (f *failing) found(q question) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.since, q)
}
