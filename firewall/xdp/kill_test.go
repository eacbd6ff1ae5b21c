package xdp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
)

// killing is where victims are killed.
type killing struct {
	*enginetest.World
	t    *testing.T
	top  string
	dir  string // of the layout in force
	seen map[step]bool
}

// R-BX-18: kill -9 at each step of an upgrade and of each swap lets no packet of
// a banned source through, keeps nobody else out, loses no ban, and leaves nothing
// that the next process does not find and clear away. Each step is tried when it
// comes first and when it comes last.
func TestKilledAtEachStep(t *testing.T) {
	if testing.Short() {
		t.Skip("some sixty processes that each load the program twice: -short leaves that to make test")
	}
	k := &killing{World: enginetest.NewWorld(t), t: t, top: enginetest.PinDir(t), seen: make(map[step]bool)}
	k.dir = k.top + "/v1"
	t.Cleanup(func() { k.must("clean up", k.Inside(func() error { return Remove(context.Background(), k.dir) })) })
	t.Run("first of all", k.first)
	for _, play := range []string{"upgrade", "replace", "grow", "grow at once", "world"} {
		t.Run(play, func(t *testing.T) { k.with(t).guarded(play, k.dir) })
	}
	t.Run("another layout", k.layouts)
	t.Run("remove", k.remove)
	if left := slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return k.seen[s] }); len(left) > 0 {
		t.Errorf("nobody was killed at the steps %q", left)
	}
}

func (k *killing) with(t *testing.T) *killing {
	of := *k
	of.t = t
	return &of
}

func (k *killing) must(what string, err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatalf("%s: %v", what, err)
	}
}

// stops are the steps that a play comes to, each where it comes first and last.
func (k *killing) stops(play, dir string) (list []part) {
	k.t.Helper()
	count := make(map[step]int)
	var order []step
	for _, line := range k.play(part{Play: play, Dir: dir}) {
		if name, is := strings.CutPrefix(line, saysStep+" "); is {
			if count[step(name)]++; count[step(name)] == 1 {
				order = append(order, step(name))
			}
		}
	}
	if len(order) == 0 {
		k.t.Fatalf("%s comes to no step", play)
	}
	for _, s := range order {
		for _, n := range slices.Compact([]int{1, count[s]}) {
			list = append(list, part{play, dir, s, n})
		}
	}
	return list
}

// guarded kills a play at each step while bans are in force.
func (k *killing) guarded(play, dir string) {
	k.adopt(dir, nil)
	banned := k.Send("192.0.2.7", enginetest.Mail, enginetest.Shape{})
	stops := k.stops(play, dir)
	k.t.Log(len(stops), "kills")
	for _, p := range stops {
		k.kill(p)
	}
	k.silent(banned)
}

// first kills the first of all at steps that no other comes to.
func (k *killing) first(t *testing.T) {
	k = k.with(t)
	for _, p := range k.stops("layout", k.dir) {
		k.must("remove", k.Inside(func() error { return Remove(context.Background(), k.dir) }))
		if p.Stop == stepAttached || p.Stop == stepPinned || p.Stop == stepProgram {
			k.kill(p)
		}
	}
}

// layouts kills those that take over from another layout, the next one each time.
func (k *killing) layouts(t *testing.T) {
	k = k.with(t)
	banned := k.Send("192.0.2.7", enginetest.Mail, enginetest.Shape{})
	next := 2
	k.dir = fmt.Sprintf("%s/v%d", k.top, next)
	for _, p := range k.stops("layout", k.dir) {
		next++
		p.Dir = fmt.Sprintf("%s/v%d", k.top, next)
		k.kill(p)
		k.dir = p.Dir
	}
	k.silent(banned)
}

// remove kills who takes everything out.
func (k *killing) remove(t *testing.T) {
	k = k.with(t)
	dir := k.top + "/v99"
	k.adopt(dir, nil)
	for _, p := range k.stops("remove", dir) {
		k.adopt(dir, nil)
		k.play(p)
		k.seen[p.Stop] = true
		k.must("remove", k.Inside(func() error { return Remove(context.Background(), dir) }))
		k.Connects("192.0.2.7", enginetest.Mail)
		if left, _ := filepath.Glob(k.top + "/*"); len(left) > 0 {
			t.Errorf("killed at %q: %v is left", p.Stop, left)
		}
	}
}

func (k *killing) silent(s *enginetest.Sender) {
	k.t.Helper()
	s.Stop(k.World)
	if n := s.Answered.Load(); n != 0 {
		k.t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
}

// kill plays a part to its end, and looks at what it has left.
func (k *killing) kill(p part) {
	k.t.Helper()
	sent := 0
	for _, line := range k.play(p) {
		_, _ = fmt.Sscanf(line, saysBanned+" %d", &sent)
	}
	k.seen[p.Stop] = true
	k.Connects("203.0.113.200", enginetest.Mail)
	if p.Play != "layout" || p.Dir != k.dir { // but where it is the first of all
		k.stands(p)
	}
	k.adopt(p.Dir, strangers(sent))
	if k.t.Failed() {
		k.t.Fatalf("killed at %q, time %d", p.Stop, p.Nth)
	}
}

// stands asks the program that the victim has left on the interface, before
// anybody does anything about it.
func (k *killing) stands(p part) {
	k.t.Helper()
	for _, dir := range []string{p.Dir, k.dir} {
		n, found, err := pins(dir).inForce()
		k.must("look at the pins", err)
		running, err := pins(dir).running()
		k.must("look at the links", err)
		if !found || len(running) == 0 {
			continue // it is not in force yet, or not any more
		}
		prog, err := ebpf.LoadPinnedProgram(filepath.Join(pins(dir).generation(n), progPin), nil)
		if err != nil && dir == k.dir && dir != p.Dir {
			continue // its link is on the way to the new layout
		}
		k.must("open the program", err)
		defer prog.Close()
		for src, want := range map[string]uint32{"192.0.2.7": xdpDrop, "203.0.113.9": xdpDrop, "2001:db8::9": xdpDrop, "2001:db8:5::9": xdpDrop, "203.0.113.200": xdpPass, "198.18.7.9": xdpPass} {
			verdict, err := prog.Run(&ebpf.RunOptions{Data: synFrame(netip.MustParseAddr(src), enginetest.Mail)})
			if err != nil || verdict != want {
				k.t.Errorf("a packet of %s ends as %d, not %d (%v)", src, verdict, want, err)
			}
		}
		if p.Play == "world" {
			verdict, err := prog.Run(&ebpf.RunOptions{Data: synFrame(netip.MustParseAddr("198.51.100.9"), enginetest.Mail)})
			if err != nil || verdict != xdpDrop {
				k.t.Errorf("a packet out of a denied country ends as %d (%v)", verdict, err)
			}
		}
		return
	}
	k.t.Errorf("no program of ours is on the interface")
}

// play has a process play a part, and kills it where it stops. It says what it
// was told.
func (k *killing) play(p part) (told []string) {
	k.t.Helper()
	text, err := json.Marshal(p)
	k.must("write a part", err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), victimEnv+"="+string(text))
	ns, err := unix.Dup(int(k.Server))
	k.must("pass the namespace on", err)
	words, theirs, err := os.Pipe()
	k.must("make a pipe", err)
	defer words.Close()
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(ns), "namespace"), theirs}
	k.must("start a victim", cmd.Start())
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	cmd.ExtraFiles[0].Close()
	theirs.Close()
	for sc := bufio.NewScanner(words); sc.Scan(); {
		switch line := sc.Text(); {
		case line == saysStopped || line == saysDone && p.Stop == "":
			return told
		case line == saysDone:
			k.t.Fatalf("%s did not come to %q, time %d", p.Play, p.Stop, p.Nth)
		default:
			told = append(told, line)
		}
	}
	k.t.Fatalf("%+v died by itself: %q", p, told)
	return nil
}

// adopt is the next process: it finds the bans, and clears away what is nobody's.
func (k *killing) adopt(dir string, more []firewall.Ban) {
	k.t.Helper()
	k.must("take over", k.Inside(func() error {
		ctx := context.Background()
		_, _, found := pins(dir).inForce()
		t, err := Open(Options{PinDir: dir})
		if err != nil {
			return err
		}
		defer t.Close()
		fresh := t.countOrFail(k.t) == 0
		if err := errors.Join(found, t.Configure(ctx, edgeRules())); err != nil {
			return err
		}
		if fresh { // of another layout, or the first: the guard fills it from its ledger
			if err := t.Replace(ctx, slices.Values(standing())); err != nil {
				return err
			}
		}
		k.holds(t, append(standing(), more...))
		k.tidy(t)
		return t.Intact(ctx)
	}))
}

func (t *Table) countOrFail(tb testing.TB) int {
	n, err := t.countBans()
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// holds asks the kernel for every ban, and the program for its verdicts.
func (k *killing) holds(t *Table, list []firewall.Ban) {
	k.t.Helper()
	prefixes := make([]netip.Prefix, len(list))
	for i, b := range list {
		prefixes[i] = b.Prefix
	}
	have, err := t.Hits(context.Background(), prefixes)
	if err != nil || len(have) != len(prefixes) {
		k.t.Errorf("%d of %d bans stand (%v)", len(have), len(prefixes), err)
	}
	for i := 0; i < len(prefixes); i += 1 + len(prefixes)/500 {
		if a := prefixes[i].Addr(); t.verdictOf(k.t, a) != xdpDrop {
			k.t.Errorf("a packet of %v passes", a)
		}
	}
	for _, s := range []string{"203.0.113.200", "12.0.0.1", "198.18.7.9", "2001:db8:4000::1"} {
		if a := netip.MustParseAddr(s); t.verdictOf(k.t, a) != xdpPass {
			k.t.Errorf("a packet of %v is dropped", a)
		}
	}
}

// tidy fails unless all that is pinned, and all that stands in maps of maps, is
// in use.
func (k *killing) tidy(t *Table) {
	k.t.Helper()
	info, err := t.obj.Mailweir.Info()
	k.must("ask for the program", err)
	ids, _ := info.MapIDs()
	used := make(map[ebpf.MapID]bool)
	for _, id := range ids {
		used[id] = true
	}
	for _, n := range []int{inBan4, inBan6} {
		s := t.tables[n].(*singles)
		f := t.family(s.v6)
		in := uint32(f.place(t.word()))
		k.only(f.outer, func(place uint32) bool { return place == in })
		k.only(f.hints, func(i uint32) bool { return i == in*64 })
		info, err := s.table.Map.Info()
		k.must("ask for a table", err)
		id, _ := info.ID()
		used[id] = true
	}
	k.only(t.obj.Geo, func(uint32) bool { return false })
	files, _ := filepath.Glob(filepath.Join(t.opt.PinDir, genPrefix+"*", "*"))
	for _, path := range files {
		if filepath.Base(path) == progPin {
			continue
		}
		m, err := ebpf.LoadPinnedMap(path, nil)
		k.must("open a pin", err)
		info, err := m.Info()
		m.Close()
		k.must("ask for a pinned map", err)
		if id, _ := info.ID(); !used[id] && filepath.Base(path) != "class_count" {
			k.t.Errorf("%s is pinned, and nobody uses it", path)
		}
	}
	k.entries(filepath.Dir(t.opt.PinDir), filepath.Base(t.opt.PinDir))
	k.entries(t.opt.PinDir, fmt.Sprintf("%s%d", genPrefix, t.generation), fmt.Sprintf("%s%d", linkPrefix, slices.Collect(maps.Keys(t.links))[0]))
}

// entries fails unless a directory has these.
func (k *killing) entries(dir string, want ...string) {
	k.t.Helper()
	var have []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if slices.Sort(want); err != nil || !slices.Equal(have, want) {
		k.t.Errorf("%s has %v, want %v (%v)", dir, have, want, err)
	}
}

// only fails unless a map of maps has entries at such places only.
func (k *killing) only(outer *ebpf.Map, right func(uint32) bool) {
	k.t.Helper()
	for place := range outer.MaxEntries() {
		var id ebpf.MapID
		if err := outer.Lookup(place, &id); err == nil != right(place) {
			k.t.Errorf("%v has at place %d map %d (%v)", outer, place, id, err)
		}
	}
}
