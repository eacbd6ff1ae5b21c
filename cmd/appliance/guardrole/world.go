package guardrole

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/firewall/guard"
	"mailweir/geo"
)

// world is where addresses are, compiled for the kernel: the guard role's part
// of [geo]. A damaged database is an alarm, and what was known stays in force.
type world struct {
	log *slog.Logger

	work sync.Mutex // held while databases are read and compiled, for seconds
	db   *geo.DB    // nil until somebody needs it
	asns []uint32   // that tables know apart
	made bool       // tables are of db as it is now

	mu     sync.Mutex // of what may be asked meanwhile
	from   config.Geo
	tables *geo.Tables
	unread error // what is wrong with the files
	unfit  error // why they are not in tables
}

// worldDelay is how long the start of a guard without rules about countries
// goes before the world is loaded: it costs seconds of a processor, and mail
// comes first.
const worldDelay = 10 * time.Second

// use is the world for a configuration, and the rules for the kernel: whose
// new connections are dropped, and whose earn a ban. Without rules the world is
// nil until it was loaded by watch.
func (w *world) use(from config.Geo) (tables *geo.Tables, drop, ban []geo.Rule) {
	w.work.Lock()
	defer w.work.Unlock()
	w.mu.Lock()
	if from.Database != w.from.Database || from.ASN != w.from.ASN {
		w.db, w.made = nil, false
	}
	w.from = from
	w.mu.Unlock()
	drop, ban = settings.GeoRules(from.Drop), settings.GeoRules(from.Ban)
	if len(drop)+len(ban) > 0 {
		w.compile()
	}
	return w.known(), drop, ban
}

func (w *world) known() *geo.Tables {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tables
}

// compile makes tables where there are none for these databases and rules. The
// caller holds work.
func (w *world) compile() {
	w.mu.Lock()
	from := w.from
	w.mu.Unlock()
	var asns []uint32
	for _, r := range settings.GeoRules(slices.Concat(from.Drop, from.Ban)) {
		if r.ASN != 0 && !slices.Contains(asns, r.ASN) {
			asns = append(asns, r.ASN)
		}
	}
	if w.made && slices.Equal(asns, w.asns) {
		return
	}
	if w.db == nil {
		db, err := geo.Open(from.Database, from.ASN)
		w.db = db
		w.note(&w.unread, err)
	}
	tables, err := w.db.Compile(asns)
	w.note(&w.unfit, err)
	if w.made = err == nil; !w.made {
		return
	}
	w.asns = asns
	w.mu.Lock()
	w.tables = tables
	w.mu.Unlock()
}

// note remembers what is wrong, or that it is not any more, in place of what
// was wrong before.
func (w *world) note(what *error, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && (*what == nil || (*what).Error() != err.Error()) {
		w.log.Error("country or network data", "error", err)
	}
	*what = err
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
		next.Reset(settings.GeoInterval)
	}
}

// refresh says whether there is another world than before.
func (w *world) refresh() (*geo.Tables, bool) {
	w.work.Lock()
	defer w.work.Unlock()
	before := w.known()
	if w.db != nil {
		again, err := w.db.Reload()
		if again || err != nil {
			w.note(&w.unread, err)
		}
		w.made = w.made && !again
	}
	w.compile()
	after := w.known()
	return after, after != before
}

// alarms are what rules about countries cannot do.
func (w *world) alarms() (list []guard.Alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []string
	if len(w.from.Drop) > 0 {
		keys = append(keys, "geo.drop")
	}
	if len(w.from.Ban) > 0 {
		keys = append(keys, "geo.ban")
	}
	if len(keys) == 0 {
		return nil
	}
	rules, problem := strings.Join(keys, " and "), errors.Join(w.unread, w.unfit)
	if w.tables == nil {
		return []guard.Alarm{{Name: "geo", Text: fmt.Sprintf("no country is known, so that nothing comes of %s: %v", rules, problem)}}
	}
	if problem != nil {
		list = append(list, guard.Alarm{Name: "geo", Text: fmt.Sprintf("older data stands behind %s: %v", rules, problem)})
	}
	if w.from.ASN == "" && slices.ContainsFunc(settings.GeoRules(slices.Concat(w.from.Drop, w.from.Ban)), func(r geo.Rule) bool { return r.ASN != 0 }) {
		list = append(list, guard.Alarm{Name: "geo", Text: rules + ": networks are named, and nothing tells them apart: set geo.asn to a database of autonomous systems"})
	}
	return list
}
