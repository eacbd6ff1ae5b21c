package mailrole

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/disk"
	"mailweir/record"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
)

const (
	alarmGreylist     = "greylist_state"
	alarmGreylistLost = "greylist_lost"
	alarmGreylistFull = "greylist_full"
)

// greylisting is who has to come back, and who did, in the mail role's folder.
type greylisting struct {
	*greylist.List
	store   *greylist.Local
	returns *greylist.Returns
	dir     string
	now     func() time.Time
	alarms  record.Alarms
	policy  atomic.Pointer[greyPolicy]
	full    atomic.Int64 // when there was no room last, in Unix seconds; 0: there is
}

// greyPolicy is the file as far as the list itself looks at it.
type greyPolicy struct {
	mode    string
	longest greylist.Terms // of all domains: what is over by these is over
	observe bool
	domains map[string]bool // that observe by themselves
}

// newGreylisting makes the list with what it knew before the restart. What is
// damaged is forgotten, which costs some senders another wait.
func newGreylisting(cfg config.Config, dir string, now func() time.Time, alarms record.Alarms) (*greylisting, error) {
	seed, err := keptKey(filepath.Join(dir, "greylist.key"), 16)
	if err != nil {
		return nil, err
	}
	g := &greylisting{store: greylist.NewLocal(0), returns: greylist.NewReturns(), dir: dir, now: now, alarms: alarms}
	g.List = greylist.New(g.store, [16]byte(seed))
	g.use(cfg)
	if err := disk.Restore(g.file(), g.store.Load); err != nil {
		g.alarms.Alarm(alarmGreylistLost, fmt.Sprintf("senders that waited have to wait again: %v", err))
	}
	if err := disk.Restore(g.returnsFile(), g.returns.Load); err != nil {
		g.alarms.Alarm(alarmGreylistLost, fmt.Sprintf("who comes back is counted from now: %v", err))
	}
	return g, nil
}

func (g *greylisting) file() string        { return filepath.Join(g.dir, "greylist.state") }
func (g *greylisting) returnsFile() string { return filepath.Join(g.dir, "returns.json") }

// use puts a file in force.
func (g *greylisting) use(cfg config.Config) {
	p := &greyPolicy{mode: cfg.Greylist.Mode, longest: settings.Greylist(cfg.Greylist).Terms, observe: cfg.Observe}
	p.domains = map[string]bool{}
	for _, d := range cfg.Domains {
		p.domains[d.Name] = d.Observe
		own := settings.Greylist(d.Greylist).Terms
		p.longest.Window, p.longest.Pass = max(p.longest.Window, own.Window), max(p.longest.Pass, own.Pass)
	}
	g.policy.Store(p)
}

// Meet implements smtp.Greylist. Who was not told to come back is not counted
// among those who do not.
func (g *greylisting) Meet(ctx context.Context, now time.Time, t greylist.Terms, c greylist.Contact) (greylist.Answer, error) {
	a, err := g.List.Meet(ctx, now, t, c)
	p := g.policy.Load()
	if err == nil && a.State == greylist.Away {
		g.full.Store(now.Unix())
		g.alarms.Alarm(alarmGreylistFull, "so many strangers wait that the greylist has no room, and no new one is put off: "+
			"that is a flood of first contacts, see weir top, or set greylist.mode = \"suspicious\"")
	}
	if err == nil && !p.observe && !p.domains[access.DomainOf(strings.ToLower(c.Recipient))] {
		g.returns.Note(now, t.Window, c, a)
	}
	return a, err
}

// run keeps both on disk until life ends, and forgets what is over.
func (g *greylisting) run(life context.Context, background *sync.WaitGroup) {
	first, second := time.NewTicker(disk.KeepEvery), time.NewTicker(disk.KeepEvery)
	background.Go(func() {
		defer first.Stop()
		disk.Keep(life, g.file(), first.C, func(w io.Writer) error {
			g.store.Sweep(g.now(), g.policy.Load().longest)
			g.room(g.now())
			return g.store.Save(w)
		}, g.kept)
	})
	background.Go(func() {
		defer second.Stop()
		disk.Keep(life, g.returnsFile(), second.C, g.returns.Save, g.kept)
	})
}

// fullFor is how long after the last stranger without a place the alarm stands.
const fullFor = 15 * time.Minute

// room ends the alarm of a full list when nobody was without a place for a while.
func (g *greylisting) room(now time.Time) {
	if last := g.full.Load(); last != 0 && now.Unix()-last > int64(fullFor/time.Second) {
		g.full.Store(0)
		g.alarms.Clear(alarmGreylistFull, "there is room again")
	}
}

func (g *greylisting) kept(err error) {
	if err == nil {
		g.alarms.Clear(alarmGreylist, "it is kept again")
		return
	}
	g.alarms.Alarm(alarmGreylist, fmt.Sprintf("keep the greylist (is the disk of %s full?): %v", g.dir, err))
}

// report is who comes back.
func (g *greylisting) report() greylist.Report {
	return g.returns.Report(g.now(), g.policy.Load().longest.Window)
}

func (g *greylisting) status() mailapi.GreylistStatus {
	s, r := mailapi.GreylistStatus{Mode: g.policy.Load().mode}, g.report()
	s.Waiting, s.Passed = g.store.Len()
	s.Never, s.Pools = r.PerTenThou, r.Pools
	return s
}
