package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
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

	mu   sync.Mutex
	from []config.Syslog
	stop func()            // ends the exporters in use
	away map[string]string // collectors that cannot be reached, and why
}

func newEvents(node string, now func() time.Time, log *slog.Logger) *events {
	return &events{Log: record.NewLog(node, now), log: log, node: node, stop: func() {}, away: map[string]string{}}
}

// exporters makes those that a configuration asks for; nothing is sent before
// use. nil: the ones in use go on.
func (e *events) exporters(from []config.Syslog) ([]*syslog.Exporter, error) {
	e.mu.Lock()
	same := e.from != nil && reflect.DeepEqual(e.from, from)
	e.mu.Unlock()
	if same {
		return nil, nil
	}
	if len(from) == 0 {
		from = []config.Syslog{{Name: "standard error", Facility: "mail"}}
	}
	var list []*syslog.Exporter
	for _, s := range from {
		x, err := e.exporter(s)
		if err != nil {
			return nil, fmt.Errorf("syslog.%s: %w", s.Name, err)
		}
		list = append(list, x)
	}
	return list, nil
}

func (e *events) exporter(s config.Syslog) (*syslog.Exporter, error) {
	facility, err := syslog.ParseFacility(s.Facility)
	if err != nil {
		return nil, err
	}
	return syslog.New(syslog.Options{
		Header: syslog.Header{Facility: facility, Hostname: e.node, App: "weir", Proc: strconv.Itoa(os.Getpid())},
		Target: syslog.Target{URL: s.Target, CA: s.CA},
		Report: func(err error) { e.report(s.Name, err) },
	})
}

// report keeps which collectors are away. It is not told to the collectors: a
// collector that is away would be told of itself.
func (e *events) report(name string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		delete(e.away, name)
		e.log.Info("collector is back", "syslog", name)
		return
	}
	e.away[name] = err.Error()
	e.log.Error("collector is away, events wait in memory", "syslog", name, "error", err)
}

// use has the exporters tell everything from now on, until ctx ends or others
// take their place.
func (e *events) use(ctx context.Context, running *sync.WaitGroup, from []config.Syslog, list []*syslog.Exporter) {
	if list == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	var sinks []record.Sink
	for _, x := range list {
		sinks = append(sinks, x)
		running.Go(func() { x.Run(ctx) })
	}
	e.SetSinks(sinks...)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stop()
	e.stop, e.away = stop, map[string]string{}
	if e.from = from; from == nil {
		e.from = []config.Syslog{}
	}
}

// alarms are what stands in weir status.
func (e *events) alarms() (list []string) {
	for _, a := range e.Alarms() {
		if !seenElsewhere(a.Name) {
			list = append(list, a.Detail)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(e.away)) {
		list = append(list, fmt.Sprintf("collector %s cannot be reached (%s): see whether it runs, and syslog.%[1]s.target", name, e.away[name]))
	}
	return list
}
