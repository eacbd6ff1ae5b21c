package guard

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mailweir/firewall"
)

type banSeq = iter.Seq[firewall.Ban]

// engines are all engines together. Every ban goes to each of them: to the
// first that works before apply returns, to the others right after.
type engines struct {
	list   []*engine
	ledger *firewall.Ledger
	now    func() time.Time
	log    *slog.Logger

	mu    sync.Mutex
	rules firewall.Rules // for all

	lately sync.Mutex
	fresh  []firewall.Ban // made in the last minute, oldest first; no more than mostFresh
}

// Bans made in the last minute are all asked for when drift is looked for.
const (
	newFor    = time.Minute
	mostFresh = 10_000
)

// note remembers bans that were made now.
func (es *engines) note(add []firewall.Ban) {
	es.lately.Lock()
	defer es.lately.Unlock()
	es.fresh = append(es.fresh, add[:min(len(add), mostFresh)]...)
	if len(es.fresh) > 2*mostFresh {
		es.fresh = append([]firewall.Ban(nil), es.fresh[len(es.fresh)-mostFresh:]...)
	}
}

// justMade are the bans of the last minute.
func (es *engines) justMade() []firewall.Ban {
	old := es.now().Add(-newFor)
	es.lately.Lock()
	defer es.lately.Unlock()
	es.fresh = slices.DeleteFunc(es.fresh, func(b firewall.Ban) bool { return b.Since.Before(old) })
	return slices.Clone(es.fresh)
}

func newEngines(list []Engine, ledger *firewall.Ledger, now func() time.Time, log *slog.Logger) *engines {
	es := &engines{ledger: ledger, now: now, log: log}
	for _, one := range list {
		e := newEngine(one, log, nil)
		e.standing, e.total = ledger.Active(), ledger.Len
		e.full = func() choice {
			return e.room.choose(ledger.Active(), func(bans []firewall.Ban) map[netip.Prefix]firewall.Hits { return es.hitsOfOthers(e, bans) })
		}
		es.list = append(es.list, e)
	}
	return es
}

// change makes a change in the first engine that works, and has the others make
// it soon.
func (es *engines) change(ctx context.Context, add, del []firewall.Ban) {
	es.apply(ctx, add, del)
	es.wake()
}

// wake has the engines work off what was left to them.
func (es *engines) wake() {
	for _, e := range es.list {
		if !e.idle() {
			e.nudge()
		}
	}
}

// apply says whether an engine has made the change; what it left to the others
// waits for wake, so that nothing competes with the answer to an offence. The
// caller orders changes of one prefix.
func (es *engines) apply(ctx context.Context, add, del []firewall.Ban) (done bool) {
	if len(add)+len(del) == 0 {
		return true
	}
	es.note(add)
	for _, e := range es.list {
		if done {
			e.later(add, del)
		} else {
			done = e.apply(ctx, add, del)
		}
	}
	return done
}

func (es *engines) setRules(r firewall.Rules) {
	es.mu.Lock()
	es.rules = r
	es.mu.Unlock()
	es.share()
}

// share gives each engine its rules. Countries take nftables long to write and
// much room, so that only the first engine has them, and the others as long as
// that one does not stand everywhere.
func (es *engines) share() {
	es.mu.Lock()
	defer es.mu.Unlock()
	others := es.rules
	for _, e := range es.list {
		e.setRules(others)
		if e.stands() {
			others.World, others.Deny = nil, nil
		}
	}
}

func (es *engines) want(on bool) {
	for _, e := range es.list {
		e.want(on)
	}
}

// settle makes every engine what it should be, all at once, and waits for it.
func (es *engines) settle(ctx context.Context) {
	es.each(func(e *engine) { e.settle(ctx) })
	es.share() // one may have found out that it does not stand
	es.each(func(e *engine) { e.settle(ctx) })
}

func (es *engines) each(f func(*engine)) {
	var wg sync.WaitGroup
	for _, e := range es.list {
		wg.Go(func() { f(e) })
	}
	wg.Wait()
}

// run serves the queues until ctx ends.
func (es *engines) run(ctx context.Context) {
	es.each(func(e *engine) { e.run(ctx) })
}

func (es *engines) intact(ctx context.Context) {
	es.each(func(e *engine) { e.intact(ctx) })
}

// retry tries again what went wrong.
func (es *engines) retry() {
	for _, e := range es.list {
		e.retry()
	}
}

// probe asks the engines for a sample of the bans that should stand, and puts
// back those that are gone. What is put back is asked of the ledger again, so
// that a ban lifted meanwhile stays lifted; order is the lock of changes.
func (es *engines) probe(ctx context.Context, order sync.Locker, sample []firewall.Ban) {
	prefixes := make([]netip.Prefix, len(sample))
	for i, b := range sample {
		prefixes[i] = b.Prefix
	}
	es.each(func(e *engine) {
		if !e.working() || !e.idle() || len(prefixes) == 0 {
			return
		}
		have, err := e.enf.Hits(ctx, prefixes)
		if err != nil {
			return // Status says so by itself
		}
		var lost []firewall.Ban
		for _, b := range sample {
			if _, stands := have[b.Prefix]; !stands && e.meant(b.Prefix) {
				lost = append(lost, b)
			}
		}
		es.putBack(e, order, lost)
	})
}

func (es *engines) putBack(e *engine, order sync.Locker, lost []firewall.Ban) {
	order.Lock()
	defer order.Unlock()
	var add []firewall.Ban
	for _, b := range lost {
		// The ledger rounds ends up to seconds: one that is nearly over may be gone rightly.
		if b, stands := es.ledger.Exactly(b.Prefix); stands && b.Until.Sub(es.now()) > 2*time.Second {
			add = append(add, b)
		}
	}
	if len(add) > 0 {
		es.log.Warn("bans were gone from the kernel, they are put back", "engine", e.name, "bans", len(add), "one", add[0].Prefix)
		e.later(add, nil)
		e.nudge()
	}
}

// hits adds up what the engines counted.
func (es *engines) hits(ctx context.Context, infos []BanInfo) {
	prefixes := make([]netip.Prefix, len(infos))
	for i, b := range infos {
		prefixes[i] = b.Prefix
	}
	for _, e := range es.list {
		if !e.working() {
			continue
		}
		have, err := e.counted(ctx, prefixes)
		if err != nil {
			e.trouble("hits", err)
			continue
		}
		e.settled("hits")
		for i := range infos {
			if h, ok := have[infos[i].Prefix]; ok {
				infos[i].Packets += h.Packets
				infos[i].Hits = append(infos[i].Hits, EngineHits{e.name, h.Packets, h.First})
			}
		}
	}
}

// counters is what the engines that work counted, by their names.
func (es *engines) counters(ctx context.Context) map[string]firewall.Counters {
	all := make(map[string]firewall.Counters)
	for _, e := range es.list {
		if !e.working() {
			continue
		}
		c, err := e.enf.Counters(ctx)
		e.trouble("counters", err)
		if err == nil {
			all[e.name] = c
		}
	}
	return all
}

func (es *engines) status(ctx context.Context) []EngineStatus {
	list := make([]EngineStatus, len(es.list))
	all := es.ledger.Len()
	var wg sync.WaitGroup
	for i, e := range es.list {
		wg.Go(func() { list[i] = e.status(ctx, all) })
	}
	wg.Wait()
	return list
}
