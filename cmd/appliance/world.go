package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mailweir/config"
	"mailweir/geo"
)

// world is where addresses are, compiled for the kernel: the guard role's part
// of [geo]. A damaged database is an alarm, and what was known stays in force.
type world struct {
	log *slog.Logger

	mu      sync.Mutex
	from    config.Geo
	db      *geo.DB // nil until somebody needs it
	asns    []uint32
	tables  *geo.Tables
	problem error
}

// worldDelay is how long the start of a guard without rules about countries
// goes before the world is loaded: it costs seconds of a processor, and mail
// comes first.
const worldDelay = 10 * time.Second

// rulesOf are the rules of a list that the configuration has checked.
func rulesOf(list []string) (rules []geo.Rule) {
	for _, s := range list {
		if r, err := geo.ParseRule(s); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}

// use is the world for a configuration. Without rules it is nil until it was
// loaded by watch.
func (w *world) use(from config.Geo) (*geo.Tables, []geo.Rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if from.Database != w.from.Database || from.ASN != w.from.ASN {
		w.db = nil
	}
	w.from = from
	rules := rulesOf(from.Drop)
	if len(rules) > 0 {
		w.compile(rules)
	}
	return w.tables, rules
}

// compile makes tables where there are none for these rules. The caller holds
// the lock.
func (w *world) compile(rules []geo.Rule) {
	var asns []uint32
	for _, r := range rules {
		if r.ASN != 0 {
			asns = append(asns, r.ASN)
		}
	}
	if w.db != nil && w.tables != nil && slices.Equal(asns, w.asns) {
		return
	}
	if w.db == nil {
		w.db, w.problem = geo.Open(w.from.Database, w.from.ASN)
	}
	tables, err := w.db.Compile(asns)
	if err != nil {
		w.problem = errors.Join(w.problem, err)
		w.log.Error("country or network data", "error", w.problem)
		return
	}
	w.tables, w.asns = tables, asns
}

// watch loads the world when it is time, and again when its files change.
func (w *world) watch(ctx context.Context, changed func(context.Context, *geo.Tables)) {
	next := time.NewTimer(worldDelay)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if tables, news := w.refresh(); news {
			changed(ctx, tables)
		}
		next.Reset(geoInterval)
	}
}

// refresh says whether there is another world than before.
func (w *world) refresh() (*geo.Tables, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.tables
	if w.db != nil {
		again, err := w.db.Reload()
		if err != nil {
			w.problem = err
			w.log.Error("country or network data", "error", err)
		}
		if !again {
			return w.tables, false
		}
		w.problem, w.asns = nil, nil
		w.tables = nil
	}
	if w.compile(rulesOf(w.from.Drop)); w.tables == nil {
		w.tables = before
	}
	return w.tables, w.tables != before
}

// alarms are what rules about countries cannot do.
func (w *world) alarms() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.from.Drop) == 0 {
		return nil
	}
	if w.tables == nil {
		return []string{fmt.Sprintf("geo.drop drops nobody, no country is known: %v", w.problem)}
	}
	if w.problem != nil {
		list = append(list, fmt.Sprintf("geo.drop goes by older data: %v", w.problem))
	}
	if len(w.asns) > 0 && w.from.ASN == "" {
		list = append(list, "geo.drop names networks, and nothing tells them apart: set geo.asn to a database of autonomous systems")
	}
	return list
}
