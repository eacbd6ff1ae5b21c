package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailweir/config"
	"mailweir/record"
	"mailweir/record/syslog"
)

// events are what the mail role tells the collectors: those of [syslog], or
// standard error where there are none.
type events struct {
	*record.Log
	log  *slog.Logger
	node string
	dir  string // what waits for each collector, in a folder of its own

	mu    sync.Mutex
	from  []config.Syslog
	inUse []collector
	stop  func()        // ends those in use
	ended chan struct{} // closed when they have
}

// collector is one who is told.
type collector struct {
	name string
	*syslog.Exporter
}

func newEvents(node, dir string, now func() time.Time, log *slog.Logger) *events {
	none := make(chan struct{})
	close(none)
	return &events{Log: record.NewLog(node, now), log: log, node: node, dir: dir, stop: func() {}, ended: none}
}

// collectors makes those that a configuration asks for; nothing is sent before
// use. nil: the ones in use go on.
func (e *events) collectors(from []config.Syslog) ([]collector, error) {
	e.mu.Lock()
	same := e.from != nil && reflect.DeepEqual(e.from, from)
	e.mu.Unlock()
	if same {
		return nil, nil
	}
	if len(from) == 0 {
		from = []config.Syslog{{Name: "standard error", Facility: "mail"}}
	}
	var list []collector
	for _, s := range from {
		x, err := e.exporter(s)
		if err != nil {
			return nil, fmt.Errorf("syslog.%s: %w", s.Name, err)
		}
		list = append(list, collector{s.Name, x})
	}
	return list, nil
}

func (e *events) exporter(s config.Syslog) (*syslog.Exporter, error) {
	facility, err := syslog.ParseFacility(s.Facility)
	if err != nil {
		return nil, err
	}
	o := syslog.Options{
		Header: syslog.Header{Facility: facility, Hostname: e.node, App: "weir", Proc: strconv.Itoa(os.Getpid())},
		Target: syslog.Target{URL: s.Target, CA: s.CA},
		Report: func(err error) { e.report(s.Name, err) },
	}
	if s.Target != "" {
		o.Dir, o.Most = filepath.Join(e.dir, s.Name), int64(s.Buffer)
	}
	return syslog.New(o)
}

// report tells of a collector that is away: the others at once, itself when it
// is back.
func (e *events) report(name string, err error) {
	alarm := alarmCollector + name
	if err == nil {
		e.log.Info("collector is back", "syslog", name)
		e.Clear(alarm, "it is back")
		return
	}
	e.log.Error("collector is away, events wait on disk", "syslog", name, "error", err)
	e.Alarm(alarm, fmt.Sprintf("collector %s cannot be reached (%v), events wait on disk: see whether it runs, and syslog.%[1]s.target", name, err))
}

// use has the collectors told everything from now on, until ctx ends or others
// take their place. Those begin when the last have put what they had to the
// disk, where both look.
func (e *events) use(ctx context.Context, running *sync.WaitGroup, from []config.Syslog, list []collector) {
	if list == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	e.mu.Lock()
	stopLast, last, ended := e.stop, e.ended, make(chan struct{})
	e.stop, e.ended, e.inUse = stop, ended, list
	if e.from = from; from == nil {
		e.from = []config.Syslog{}
	}
	e.mu.Unlock()
	var sinks []record.Sink
	for _, c := range list {
		sinks = append(sinks, c)
	}
	e.SetSinks(sinks...)
	stopLast()
	running.Go(func() {
		defer close(ended)
		<-last
		e.forgetOthers(list)
		var all sync.WaitGroup
		for _, c := range list {
			all.Go(func() { c.Run(ctx) })
		}
		all.Wait()
	})
}

// forgetOthers removes what waits for collectors that are not in the file any
// more, and their alarms.
func (e *events) forgetOthers(list []collector) {
	stays := map[string]bool{}
	for _, c := range list {
		stays[c.name] = true
	}
	folders, _ := os.ReadDir(e.dir) // none before the first collector
	for _, f := range folders {
		if stays[f.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(e.dir, f.Name())); err != nil {
			e.log.Error("what waited for a collector that is gone stays", "error", err)
		}
	}
	for _, a := range e.Alarms() {
		for _, of := range []string{alarmCollector, alarmBuffer} {
			if name, is := strings.CutPrefix(a.Name, of); is && !stays[name] {
				e.Clear(a.Name, "it is not told any more")
			}
		}
	}
}

// look raises alarms of what is wrong with the buffers.
func (e *events) look() {
	for name, s := range e.stats() {
		alarm := alarmBuffer + name
		if s.Problem == "" {
			e.Clear(alarm, "events are on disk again")
			continue
		}
		e.Alarm(alarm, fmt.Sprintf("events for collector %s wait in memory only: %s: make room, or mend the disk", name, s.Problem))
	}
}

// stats is how it stands with each collector, by its name.
func (e *events) stats() map[string]syslog.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]syslog.Stats{}
	for _, c := range e.inUse {
		all[c.name] = c.Stats()
	}
	return all
}

// alarms are what stands in weir status.
func (e *events) alarms() (list []string) {
	for _, a := range e.Alarms() {
		if !seenElsewhere(a.Name) {
			list = append(list, a.Detail)
		}
	}
	return list
}
