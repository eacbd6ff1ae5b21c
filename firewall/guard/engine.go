package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"mailweir/firewall"
)

// batch is how many bans an engine is given in one transaction where they come
// from a queue. One that cannot be had costs no others but those of its batch.
const batch = 4096

// engine is one Enforcer with what it still owes. The owner of a change gives
// it by apply or later, in order; run works off what has to wait.
type engine struct {
	name string
	enf  firewall.Enforcer // nil when it could not be made
	err  error             // why
	log  *slog.Logger
	full func() choice // the whole truth, as far as there is room

	standing banSeq     // all bans of the ledger
	total    func() int // how many these are
	asked    asked

	call sync.Mutex  // held across calls that change the kernel
	long atomic.Bool // it is held by one that may take seconds

	mu        sync.Mutex
	wanted    bool           // false: everything is to be out of the kernel
	rules     firewall.Rules // to be in force
	configure bool           // rules have to be written
	replace   bool           // the whole truth has to be written
	anew      bool           // it is being written
	writing   int            // changes that were taken out of waiting and are being written
	filled    bool           // it was, since the last Remove
	room      *room          // nil: no bounds
	removed   bool           // everything is out of the kernel
	waiting   difference
	refused   difference // tried; tried again now and then
	problems  map[string]string
	wake      chan struct{}
}

func newEngine(e Engine, log *slog.Logger, full func() choice) *engine {
	if e.Err != nil {
		e.Enforcer = nil // it may hold a nil pointer of the engine's own type
	}
	return &engine{
		name: e.Name, enf: e.Enforcer, err: e.Err, log: log, full: full,
		room: newRoom(e.Enforcer), waiting: difference{}, refused: difference{}, problems: map[string]string{},
		wake: make(chan struct{}, 1),
	}
}

// nudge has run look after what the engine owes.
func (e *engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// apply makes the change now and says so, or queues it: when the engine is at
// work on something else, still owes older changes, or refuses.
func (e *engine) apply(ctx context.Context, add, del []firewall.Ban) bool {
	if e.enf == nil || e.long.Load() {
		e.later(add, del)
		return false
	}
	e.call.Lock()
	defer e.call.Unlock()
	if !e.clear(add, del) {
		e.later(add, del)
		return false
	}
	if !e.fits(add, del) {
		return false
	}
	if err := e.enf.Apply(ctx, add, del); err != nil {
		e.trouble("apply", fmt.Errorf("change bans: %w", err))
		e.later(add, del)
		return false
	}
	return true
}

// clear says whether a change may go straight to the kernel: nothing older of
// the same prefixes waits.
func (e *engine) clear(add, del []firewall.Ban) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wanted && e.filled && !e.owes(add) && !e.owes(del)
}

// fits counts a change, and has the hottest bans chosen anew where it is too much:
// those that are to be added are in the ledger.
func (e *engine) fits(add, del []firewall.Ban) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.room.lifted(del)
	if e.room.takes(add, e.standing) {
		return true
	}
	e.replace = true
	return false
}

func (e *engine) owes(bans []firewall.Ban) bool {
	if len(e.waiting)+len(e.refused) == 0 {
		return false
	}
	for i := range bans {
		_, waits := e.waiting[bans[i].Prefix]
		_, refused := e.refused[bans[i].Prefix]
		if waits || refused {
			return true
		}
	}
	return false
}

// idle says whether the kernel has every change.
func (e *engine) idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wanted && e.filled && !e.replace && len(e.waiting)+len(e.refused) == 0
}

// later queues a change; run sees to it after the next nudge. For an engine
// that is not wanted nothing is kept: it gets the whole truth when it is.
func (e *engine) later(add, del []firewall.Ban) {
	if e.enf == nil {
		return
	}
	e.mu.Lock()
	if e.wanted {
		for i := range del {
			delete(e.refused, del[i].Prefix)
			e.waiting[del[i].Prefix] = nil
		}
		for i := range add {
			delete(e.refused, add[i].Prefix)
			e.waiting[add[i].Prefix] = &add[i]
		}
	}
	e.mu.Unlock()
}

// setRules has the rules written, if they are others than before.
func (e *engine) setRules(r firewall.Rules) {
	e.mu.Lock()
	if !sameRules(e.rules, r) {
		e.rules, e.configure = r, true
	}
	e.mu.Unlock()
	e.nudge()
}

// sameRules compares all that rules say, so that a new field cannot be missed.
// Worlds are large, and the same only when they are one.
func sameRules(a, b firewall.Rules) bool {
	if a.World != b.World {
		return false
	}
	a.World, b.World = nil, nil
	return reflect.DeepEqual(a, b)
}

// want has the engine filled, or emptied.
func (e *engine) want(on bool) {
	e.mu.Lock()
	if e.wanted != on {
		e.wanted, e.configure, e.replace, e.removed = on, on, on, false
		e.waiting, e.refused = difference{}, difference{}
	}
	e.mu.Unlock()
	e.nudge()
}

// again has everything written anew: what stood in the kernel is gone.
func (e *engine) again() {
	e.mu.Lock()
	e.configure, e.replace = true, true
	e.mu.Unlock()
	e.nudge()
}

// run works off what waits, until ctx ends.
func (e *engine) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
			e.settle(ctx)
		}
	}
}

// settle makes the kernel what it should be, as far as it lets us. Where it
// does not, problems says so, and the next settle tries again.
func (e *engine) settle(ctx context.Context) {
	if e.enf == nil {
		return
	}
	e.prepare()
	e.call.Lock()
	defer e.call.Unlock()
	e.mu.Lock()
	wanted, removed := e.wanted, e.removed
	e.mu.Unlock()
	if !wanted {
		if !removed {
			e.remove(ctx)
		}
		return
	}
	e.long.Store(e.owesMuch())
	defer e.long.Store(false)
	e.writeRules(ctx)
	e.preferAll()
	e.writeAll(ctx)
	for ctx.Err() == nil && e.writeBatch(ctx) {
	}
}

// prepare has the engine take in the world to come while bans still go through.
// What goes wrong here goes wrong again in writeRules, which says so.
func (e *engine) prepare() {
	p, able := e.enf.(firewall.Preparer)
	e.mu.Lock()
	world, due := e.rules.World, e.wanted && e.configure
	e.mu.Unlock()
	if !able || !due || world == nil {
		return
	}
	if err := p.Prepare(world); err != nil {
		e.log.Debug("countries cannot be prepared", "engine", e.name, "error", err)
	}
}

// preferAll has everything written anew, in one transaction, where more waits than
// would be left alone by that: by the batch a hundred thousand changes take minutes.
func (e *engine) preferAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.waiting); e.filled && n > 2*batch && n > e.total()/2 {
		e.replace = true
	}
}

// owesMuch says whether settle has work that takes long.
func (e *engine) owesMuch() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.configure || e.replace || len(e.waiting) > 1
}

// remove takes out too what a former process of ours left in the kernel.
func (e *engine) remove(ctx context.Context) {
	err := e.enf.Remove(ctx)
	e.trouble("remove", err)
	if err != nil {
		return
	}
	e.mu.Lock()
	e.filled, e.removed = false, true
	e.mu.Unlock()
	e.settled("rules", "fill", "apply", "refused")
	e.log.Info("engine taken out of the kernel", "engine", e.name)
}

// writeRules goes on after an error: an interface that is in somebody else's
// hands must not keep the bans from the others.
func (e *engine) writeRules(ctx context.Context) {
	e.mu.Lock()
	rules, due := e.rules, e.configure
	e.configure = false
	e.mu.Unlock()
	if !due {
		return
	}
	err := e.enf.Configure(ctx, rules)
	if err != nil {
		e.mu.Lock()
		e.configure = true
		e.mu.Unlock()
	}
	e.trouble("rules", err)
}

// writeAll takes from the ledger what waits at its beginning; what is changed
// meanwhile waits until it is done.
func (e *engine) writeAll(ctx context.Context) {
	e.mu.Lock()
	due := e.replace
	if due {
		e.replace, e.anew = false, true
		e.waiting, e.refused = difference{}, difference{}
	}
	e.mu.Unlock()
	if !due {
		return
	}
	chosen := e.full()
	err := e.enf.Replace(ctx, chosen.bans)
	e.mu.Lock()
	e.anew = false
	if err != nil {
		e.replace = true
	} else {
		e.filled = true
		if e.room != nil {
			e.room.tables = chosen.tables
		}
	}
	e.mu.Unlock()
	if err == nil {
		e.settled("apply", "refused")
	}
	e.trouble("fill", err)
}

// writeBatch says whether there was something to write.
func (e *engine) writeBatch(ctx context.Context) bool {
	e.mu.Lock()
	some := take(e.waiting, batch)
	e.writing = len(some)
	e.mu.Unlock()
	if len(some) == 0 {
		e.settled("apply")
		if e.refusedCount() == 0 {
			e.settled("refused")
		}
		return false
	}
	defer func() {
		e.mu.Lock()
		e.writing = 0
		e.mu.Unlock()
	}()
	add, del := some.split()
	if !e.fits(add, del) {
		e.writeAll(ctx)
		return true
	}
	if err := e.enf.Apply(ctx, add, del); err != nil {
		e.refuse(some)
		e.trouble("refused", fmt.Errorf("%d bans or pardons are not in the kernel yet: %w", e.refusedCount(), err))
	}
	return true
}

// refuse keeps what could not be done for later, unless it was overtaken.
func (e *engine) refuse(some difference) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p, b := range some {
		if _, newer := e.waiting[p]; !newer {
			e.refused[p] = b
		}
	}
}

func (e *engine) refusedCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.refused)
}

// retry gives what was refused another chance.
func (e *engine) retry() {
	e.mu.Lock()
	for p, b := range e.refused {
		e.waiting[p] = b
	}
	some := len(e.refused) > 0
	e.refused = difference{}
	e.mu.Unlock()
	if some {
		e.settled("refused")
	}
	e.nudge()
}

// intact asks whether what we wrote still stands, and has it written anew
// where it does not. An engine that is at work is not asked.
func (e *engine) intact(ctx context.Context) {
	if e.enf == nil || !e.call.TryLock() {
		return
	}
	defer e.call.Unlock()
	e.mu.Lock()
	ask := e.wanted && e.filled && !e.replace
	e.mu.Unlock()
	if !ask {
		return
	}
	if err := e.enf.Intact(ctx); err != nil && ctx.Err() == nil {
		e.log.Warn("engine lost what it held, it is written anew", "engine", e.name, "error", err)
		e.again()
	}
}

// working says whether bans are enforced by this engine.
func (e *engine) working() bool {
	if e.enf == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wanted && e.filled && e.problems["fill"] == "" && e.problems["apply"] == ""
}

// stands says whether rules of this engine are in force wherever they should
// be, as far as is known.
func (e *engine) stands() bool {
	if e.enf == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.problems["rules"] == ""
}

// trouble remembers, and logs when it is news, what went wrong with a thing;
// nil means that it goes well again.
func (e *engine) trouble(thing string, err error) {
	if err == nil {
		e.settled(thing)
		return
	}
	e.mu.Lock()
	news := e.problems[thing] != err.Error()
	e.problems[thing] = err.Error()
	e.mu.Unlock()
	if news {
		e.log.Error("engine has a problem", "engine", e.name, "error", err)
	}
}

func (e *engine) settled(things ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, thing := range things {
		delete(e.problems, thing)
	}
}

func (e *engine) troubles() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return []string{e.err.Error()}
	}
	return slices.Sorted(maps.Values(e.problems))
}

// close lets go of the engine; with detach it is taken out of the kernel.
func (e *engine) close(ctx context.Context, detach bool) error {
	if e.enf == nil {
		return nil
	}
	e.call.Lock()
	defer e.call.Unlock()
	var err error
	if detach {
		err = e.enf.Remove(ctx)
	}
	e.asked.end()
	return errors.Join(err, e.enf.Close())
}
