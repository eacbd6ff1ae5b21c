// Package xdp enforces bans with the packet program of package bpf, attached
// to interfaces by XDP: the first place where a packet can be dropped.
//
// A Table loads the program and its maps, and pins both, and the links that
// attach them, under PinDir. What is pinned stays in force when the process
// ends, however it ends. The next Table adopts the pinned maps with their bans
// and counters, tests its own program on packets, and puts it in the place of
// the old one by updating the links: at every moment one of the two filters.
// Where the pinned maps do not fit (an upgrade that changed their size), the
// old program stays in force until Configure and Replace have filled new maps.
//
// On an interface the program runs in the driver (native) where the driver can,
// else behind it (generic); Status says which and why. A program of somebody
// else on the interface is an error that names it.
//
// The process needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and write access to
// PinDir; mounting the BPF file system, where nobody has, needs CAP_SYS_ADMIN.
// The kernel has to be Linux 6.1 or later; its BTF is not needed.
package xdp

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"mailweir/bpf"
	"mailweir/firewall"
)

var _ firewall.Enforcer = (*Table)(nil)

// DefaultPinDir is where the maps, the program and the links are pinned. Its
// last part is the version of the maps' layout.
const DefaultPinDir = "/sys/fs/bpf/mailweir/v3"

// The bits of the map cfg, as filter.c has them.
const (
	cfgGeneration uint64 = 1 << 0
	cfgObserve    uint64 = 1 << 1
	cfgBan4       uint64 = 1 << 8
	cfgBan128     uint64 = 1 << 9
	cfgBan64      uint64 = 1 << 10
	cfgBan56      uint64 = 1 << 11
	cfgBan48      uint64 = 1 << 12
	cfgPrefix4    uint64 = 1 << 13
	cfgPrefix6    uint64 = 1 << 14

	cfgFlood   uint64 = 1 << 34
	cfgExplain uint64 = 1 << 35

	// Shifts: which of the tables of single bans is in force.
	cfgTable4 = 16
	cfgTable6 = 24
	cfgPlaces = uint64(bpf.Tables-1)<<cfgTable4 | uint64(bpf.Tables-1)<<cfgTable6

	cfgTables = cfgBan4 | cfgBan128 | cfgBan64 | cfgBan56 | cfgBan48 | cfgPrefix4 | cfgPrefix6
)

// Options say how a Table works. The zero value is the appliance's.
type Options struct {
	PinDir  string           // DefaultPinDir
	Mode    Mode             // Auto
	MaxBans int              // of single IPv4 addresses, and of IPv6 /128, /64, /56 and /48 together; 12 million
	Clock   func() time.Time // time.Now; the clock that Ban.Until is in
}

func (o Options) withDefaults() Options {
	if o.PinDir == "" {
		o.PinDir = DefaultPinDir
	}
	if o.Mode == "" {
		o.Mode = Auto
	}
	if o.MaxBans == 0 {
		o.MaxBans = 12_000_000
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

func (o Options) check() error {
	if o.Mode != Auto && o.Mode != Native && o.Mode != Generic {
		return fmt.Errorf("xdp mode %q: must be auto, native or generic", o.Mode)
	}
	if o.MaxBans < 1 || o.MaxBans > math.MaxInt32 {
		return fmt.Errorf("%d bans at most: out of range", o.MaxBans)
	}
	return nil
}

// Table is the packet program with its maps. Its methods may be called from
// several goroutines.
type Table struct {
	opt   Options
	ahead prepared // the world to come

	whole  sync.Mutex     // before mu: held to change which maps and links there are
	growth sync.WaitGroup // of tables of bans, beside what goes on

	mu     sync.Mutex         // held to use them
	alone  bool               // whoever holds mu holds whole too, and may wait long
	obj    *bpf.FilterObjects // nil after Remove, until it is needed again
	tables [tableCount]banTable
	cfg    []byte            // the map of that name, in our memory
	maps   [][]byte          // that one and others
	allow  [2]bpf.PrefixHint // before the generations of the map allow
	places places
	flood  flood
	ring   *ringbuf.Reader // of samples; nil until they are asked for
	progID ebpf.ProgramID
	links  map[int]link.Link // by interface index

	rules      firewall.Rules
	configured bool              // rules were set since the maps were loaded
	filled     bool              // Replace was called since
	hintsDue   bool              // those of adopted tables are still their former owner's
	displaces  bool              // other maps are in force until ours are filled
	generation int               // of our pins; 0 until they are written
	notes      map[string]string // of interfaces: why not native, what is in the way
	growthErr  error             // why a table of bans could not grow
}

// Open loads the program, after a test of it on packets, beside what is in
// force. Nothing changes for packets before Configure.
func Open(opt Options) (*Table, error) {
	opt = opt.withDefaults()
	if err := opt.check(); err != nil {
		return nil, err
	}
	t := &Table{opt: opt}
	if err := t.load(); err != nil {
		return nil, err
	}
	return t, nil
}

// ready loads the maps again after Remove.
func (t *Table) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.links == nil {
		return errors.New("use the XDP table: it is closed")
	}
	if t.obj != nil {
		return nil
	}
	return t.load()
}

// load prepares the maps and the program; Table is unchanged when it fails.
func (t *Table) load() error {
	if err := checkSystem(t.opt.PinDir); err != nil {
		return err
	}
	spec, err := t.spec()
	if err != nil {
		return err
	}
	if err := selfTest(spec); err != nil {
		return err
	}
	reach(stepTested)
	l, err := t.pins().load(spec)
	if err != nil {
		return err
	}
	reach(stepLoaded)
	return t.adopt(l)
}

// adopt makes what was loaded ours.
func (t *Table) adopt(l *loaded) error {
	t.obj, t.displaces = l.obj, l.displaces
	t.links = make(map[int]link.Link)
	t.notes = make(map[string]string)
	t.configured, t.filled, t.hintsDue, t.generation = false, false, false, 0
	if err := t.prepare(l); err != nil {
		return errors.Join(err, l.close(), t.release())
	}
	return nil
}

func (t *Table) prepare(l *loaded) error {
	info, err := t.obj.Mailweir.Info()
	if err != nil {
		return fmt.Errorf("ask for the packet program's id: %w", err)
	}
	t.progID, _ = info.ID()
	if err := t.adoptPlaces(); err != nil {
		return err
	}
	if t.cfg, err = t.memory(t.obj.Cfg); err != nil {
		return err
	}
	hint, err := t.memory(t.obj.PrefixHint)
	if err != nil {
		return err
	}
	t.tables[inPrefix4], t.tables[inPrefix6] = newTries(&t.obj.FilterMaps, bpf.NewPrefixHint(hint))
	allow, err := t.memory(t.obj.AllowHint)
	if err != nil {
		return err
	}
	t.allow = bpf.NewAllowHints(allow)
	firsts, err := t.memory(t.obj.Firsts)
	if err != nil {
		return err
	}
	return t.prepareSingles(l, bpf.NewFirsts(firsts))
}

func (t *Table) memory(m *ebpf.Map) ([]byte, error) {
	mem, err := bpf.Memory(m)
	if err == nil {
		t.maps = append(t.maps, mem)
	}
	return mem, err
}

// spec is the program and maps to load, sized and named for these options.
func (t *Table) spec() (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadFilter()
	if err != nil {
		return nil, fmt.Errorf("read the packet program: %w", err)
	}
	spec.Programs[bpf.FilterProgMailweir].Name = programName(t.opt.PinDir)
	return spec, nil
}

// programName is what others see on the interface: ours, and which of ours, so
// that Remove can find it when its pin is gone, and finds no other. It stays
// below 15 letters: a longer one counts as cut off, and readers take the name of
// the function in its place.
func programName(pinDir string) string {
	h := fnv.New32a()
	h.Write([]byte(filepath.Clean(pinDir)))
	return fmt.Sprintf("mailweir_%05x", h.Sum32()&0xfffff)
}

// word is the one of cfg that says what is in force.
func (t *Table) word() uint64 { return atomic.LoadUint64(t.mode()) }

// setWord writes it. Packets see all its bits change at once.
func (t *Table) setWord(word uint64) { atomic.StoreUint64(t.mode(), word) }

func (t *Table) mode() *uint64 { return (*uint64)(unsafe.Pointer(&t.cfg[0])) }

// Close lets go of maps and links. Bans stay in force, and end by themselves.
func (t *Table) Close() error {
	defer t.growth.Wait()
	defer t.lockWhole()()
	t.ahead.drop()
	err := t.release()
	t.links = nil
	return err
}

// lockWhole waits for a table that grows; unlock is to be called at the end.
func (t *Table) lockWhole() (unlock func()) {
	t.whole.Lock()
	t.mu.Lock()
	return func() {
		t.mu.Unlock()
		t.whole.Unlock()
	}
}

func (t *Table) release() error {
	var errs error
	for index, l := range t.links {
		errs = errors.Join(errs, l.Close())
		delete(t.links, index)
	}
	for _, n := range []int{inBan4, inBan6} {
		if s, ok := t.tables[n].(*singles); ok && s.table != nil {
			errs = errors.Join(errs, s.table.Close())
			if s.former != nil {
				errs = errors.Join(errs, s.former.Close())
			}
		}
	}
	t.tables, t.hintsDue = [tableCount]banTable{}, false
	for _, mem := range t.maps {
		errs = errors.Join(errs, unix.Munmap(mem))
	}
	t.cfg, t.maps = nil, nil
	if t.ring != nil {
		errs = errors.Join(errs, t.ring.Close())
		t.ring = nil
	}
	if t.obj != nil {
		errs = errors.Join(errs, t.obj.Close())
		t.obj = nil
	}
	return errs
}
