package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"mailweir/bpf"
)

// pins is the directory in the BPF file system that keeps what is ours alive:
//
//	gen_7/ban4, gen_7/cfg, …   the maps of the seventh program, pinned again
//	                           from the sixth where they are the same
//	gen_7/ban4_42, …           the tables of bans in force, by their places in
//	                           the maps ban4 and ban6
//	gen_7/prog                 the program, so that its id can be told
//	link_2                     the link on the interface with index 2
//
// A generation is written whole before a link is updated to its program, and
// the older ones go after all links were. So whenever a process dies between,
// the generation in force is the one whose program the links name.
type pins string

const (
	genPrefix  = "gen_"
	linkPrefix = "link_"
	progPin    = "prog"
)

// former are the directories of other layouts, where the last part of ours is a
// version: v1 beside v2 after an upgrade, v3 after a step back. What runs by their
// links stays in force until our maps are filled; then it is replaced, link by
// link, and they go.
func (p pins) former() (list []pins) {
	if _, ours := version(filepath.Base(string(p))); !ours {
		return nil
	}
	dir := filepath.Dir(string(p))
	entries, _ := os.ReadDir(dir) // one that is not there has none
	for _, e := range entries {
		q := pins(filepath.Join(dir, e.Name()))
		if _, is := version(e.Name()); is && q != pins(filepath.Clean(string(p))) {
			list = append(list, q)
		}
	}
	return list
}

// version is the number in the name of a directory of pins.
func version(name string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(name, "v")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && name == "v"+strconv.Itoa(n)
}

// detachAll takes the pinned links out.
func (p pins) detachAll() error {
	indexes, err := p.numbered(linkPrefix)
	for _, index := range indexes {
		err = errors.Join(err, p.detach(index))
	}
	return err
}

func (t *Table) pins() pins { return pins(t.opt.PinDir) }

func (p pins) generation(n int) string {
	return filepath.Join(string(p), genPrefix+strconv.Itoa(n))
}

func (p pins) link(index int) string {
	return filepath.Join(string(p), linkPrefix+strconv.Itoa(index))
}

// numbered lists the numbers of the entries that begin with prefix, ascending.
// A directory that is not there has none.
func (p pins) numbered(prefix string) ([]int, error) {
	entries, err := os.ReadDir(string(p))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var list []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if n, err := strconv.Atoi(rest); ok && err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// inForce says which generation the links run; without links the newest.
func (p pins) inForce() (n int, found bool, err error) {
	generations, err := p.numbered(genPrefix)
	if err != nil || len(generations) == 0 {
		return 0, false, err
	}
	running, err := p.running()
	if err != nil {
		return 0, false, err
	}
	slices.Reverse(generations)
	for _, n := range generations {
		if id, err := p.programID(n); err == nil && running[id] {
			return n, true, nil
		}
	}
	return generations[0], true, nil
}

// running is the set of programs that our links name.
func (p pins) running() (map[ebpf.ProgramID]bool, error) {
	indexes, err := p.numbered(linkPrefix)
	if err != nil {
		return nil, err
	}
	ids := make(map[ebpf.ProgramID]bool)
	for _, index := range indexes {
		l, err := link.LoadPinnedLink(p.link(index), nil)
		if err != nil {
			return nil, fmt.Errorf("open our link on interface %d: %w", index, err)
		}
		info, err := l.Info()
		l.Close()
		if err == nil && info.XDP().Ifindex != 0 {
			ids[info.Program] = true
		}
	}
	return ids, nil
}

func (p pins) programID(n int) (ebpf.ProgramID, error) {
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(p.generation(n), progPin), nil)
	if err != nil {
		return 0, fmt.Errorf("open pinned program: %w", err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return 0, fmt.Errorf("ask for the pinned program's id: %w", err)
	}
	id, _ := info.ID()
	return id, nil
}

// loaded is what load brings: a program with its maps.
type loaded struct {
	obj       *bpf.FilterObjects
	tables    [2]*ebpf.Map // of single bans, in force; nil where the maps are new
	displaces bool         // what is in force has to stay until new maps are filled
}

// close lets go of the tables that nobody has taken.
func (l *loaded) close() (err error) {
	for _, m := range l.tables {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
	}
	return err
}

// load loads spec, with the maps in force where they fit.
func (p pins) load(spec *ebpf.CollectionSpec) (*loaded, error) {
	n, found, err := p.inForce()
	if err != nil {
		return nil, err
	}
	if found {
		l, err := p.loadBeside(n, spec)
		if l != nil || err != nil {
			return l, err
		}
	}
	l := &loaded{obj: new(bpf.FilterObjects)}
	if err := spec.LoadAndAssign(l.obj, nil); err != nil {
		return nil, explain("load the packet program", err)
	}
	for _, q := range append(p.former(), p) {
		running, err := q.running()
		if err != nil {
			return nil, errors.Join(err, l.obj.Close())
		}
		l.displaces = l.displaces || len(running) > 0
	}
	return l, nil
}

// loadBeside loads spec with the maps of generation n; nil when they do not fit.
func (p pins) loadBeside(n int, spec *ebpf.CollectionSpec) (*loaded, error) {
	old := p.openMaps(n, spec)
	defer closeMaps(old)
	if len(old) != len(spec.Maps) {
		return nil, nil // half old, half new is neither
	}
	l := &loaded{obj: new(bpf.FilterObjects)}
	err := spec.LoadAndAssign(l.obj, &ebpf.CollectionOptions{MapReplacements: old})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("load the packet program beside the one in force", err)
	}
	if p.openTables(n, l) {
		return l, nil
	}
	return nil, errors.Join(l.close(), l.obj.Close())
}

// openTables opens the tables of single bans in force, if it finds them as we lay
// them out: another version may have laid out only these otherwise.
func (p pins) openTables(n int, l *loaded) bool {
	var c bpf.FilterConfig
	if err := l.obj.Cfg.Lookup(uint32(0), &c); err != nil {
		return false
	}
	for i, f := range []family{{name: bpf.FilterMapBan4, shift: cfgTable4}, {name: bpf.FilterMapBan6, shift: cfgTable6}} {
		m, err := ebpf.LoadPinnedMap(p.table(n, f.name, f.place(c.Mode)), nil)
		if err != nil {
			return false
		}
		l.tables[i] = m
		if !bpf.IsBans(m, i == inBan6, int(f.place(c.Mode)/2)) {
			return false
		}
	}
	return true
}

// openMaps opens what there is of a generation.
func (p pins) openMaps(n int, spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	maps := make(map[string]*ebpf.Map)
	for name := range spec.Maps {
		if m, err := ebpf.LoadPinnedMap(filepath.Join(p.generation(n), name), nil); err == nil {
			maps[name] = m
		}
	}
	return maps
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

// pinned is what maps, programs and links have in common here.
type pinned interface {
	Pin(path string) error
	Unpin() error
}

// keep pins obj at path, also when it was pinned there before and somebody has
// removed the file.
func keep(obj pinned, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := obj.Unpin(); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	if err := obj.Pin(path); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	reach(stepPinned)
	return nil
}

// table is where the table of single bans is pinned that has a place.
func (p pins) table(n int, name string, place uint64) string {
	return filepath.Join(p.generation(n), fmt.Sprintf("%s_%d", name, place))
}

func (p pins) unpinTable(n int, name string, place uint64) error {
	if err := os.Remove(p.table(n, name, place)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin an old table of bans: %w", err)
	}
	reach(stepUnpinned)
	return nil
}

// write pins obj as generation n, and what is in tables by the path.
func (p pins) write(n int, obj *bpf.FilterObjects, tables map[string]*ebpf.Map) error {
	dir := p.generation(n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pin maps: %w", err)
	}
	reach(stepGeneration)
	for name, m := range map[string]pinned{
		bpf.FilterMapAllow: obj.Allow, bpf.FilterMapBan4: obj.Ban4, bpf.FilterMapBan6: obj.Ban6,
		bpf.FilterMapHint4: obj.Hint4, bpf.FilterMapHint6: obj.Hint6,
		bpf.FilterMapCfg: obj.Cfg, bpf.FilterMapCounters: obj.Counters, bpf.FilterMapPorts: obj.Ports,
		bpf.FilterMapAllowHint: obj.AllowHint, bpf.FilterMapFirsts: obj.Firsts, bpf.FilterMapPrefixHint: obj.PrefixHint,
		bpf.FilterMapPrefix4: obj.Prefix4, bpf.FilterMapPrefix6: obj.Prefix6,
		bpf.FilterMapSyn: obj.Syn, bpf.FilterMapSyns: obj.Syns, bpf.FilterMapExplain: obj.Explain,
		bpf.FilterMapSamples: obj.Samples, bpf.FilterMapSampled: obj.Sampled,
		bpf.FilterMapGeo: obj.Geo, bpf.FilterMapClassAction: obj.ClassAction, bpf.FilterMapClassCount: obj.ClassCount,
	} {
		if err := keep(m, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for path, m := range tables {
		if err := keep(m, path); err != nil {
			return err
		}
	}
	// Last: a generation without its program is none.
	err := keep(obj.Mailweir, filepath.Join(dir, progPin))
	reach(stepProgram)
	return err
}

// next is a number no generation has.
func (p pins) next() (int, error) {
	generations, err := p.numbered(genPrefix)
	if err != nil || len(generations) == 0 {
		return 1, err
	}
	return generations[len(generations)-1] + 1, nil
}

// removeOthers removes all generations but n.
func (p pins) removeOthers(n int) error {
	generations, err := p.numbered(genPrefix)
	for _, other := range generations {
		if other != n {
			err = errors.Join(err, os.RemoveAll(p.generation(other)))
			reach(stepOldOut)
		}
	}
	return err
}
