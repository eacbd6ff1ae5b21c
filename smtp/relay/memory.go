package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Memory is what routes know that outlives a reload and a restart: recipients
// that exist, and outcomes that clients have not heard. All routes share one.
type Memory struct {
	dir      string
	log      *slog.Logger
	cache    *cache
	outcomes *outcomes
	life     *life

	alarmed map[string]Alarm // that were reported and stand
}

const saveEvery = time.Minute

// OpenMemory reads what is kept in dir, which must exist; "" keeps nothing
// across a restart. A damaged file is set aside with a word to log; an error
// means that dir cannot be used.
func OpenMemory(dir string, log *slog.Logger) (*Memory, error) {
	if log == nil {
		log = slog.Default()
	}
	m := &Memory{dir: dir, log: log, cache: newCache(), life: newLife()}
	if dir == "" {
		m.outcomes = newOutcomes(nil)
		return m, nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("open memory of routes: %s is no directory that we can use: %w", dir, or(err, errors.New("not a directory")))
	}
	j, kept, err := openJournal(filepath.Join(dir, "outcomes.log"), log)
	if err != nil {
		return nil, fmt.Errorf("open memory of routes: %w; give our user the right to write in %s", err, dir)
	}
	m.outcomes = newOutcomes(j)
	m.outcomes.kept = kept
	if err := m.cache.load(m.snapshot(), time.Now(), log); err != nil {
		return nil, fmt.Errorf("open memory of routes: %w", err)
	}
	return m, nil
}

func (m *Memory) snapshot() string { return filepath.Join(m.dir, "recipients") }

// Run saves now and then until ctx is done. Then it ends what goes on in the
// background (a verdict that is still waited for is lost, and its message may
// come twice), saves, and closes the journal; nothing can be asked or delivered
// afterwards. Run it until the SMTP server has drained.
func (m *Memory) Run(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.save()
		case <-ctx.Done():
			m.Close()
			return
		}
	}
}

// Close does what Run does at its end; it is for those who do not call Run.
func (m *Memory) Close() {
	m.life.stop()
	m.save()
	m.outcomes.mu.Lock()
	defer m.outcomes.mu.Unlock()
	m.outcomes.journal.close()
}

func (m *Memory) save() {
	if m.dir == "" {
		return
	}
	if err := m.cache.save(m.snapshot()); err != nil {
		m.log.Error("known recipients were not saved", "error", err)
	}
}
