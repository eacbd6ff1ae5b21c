package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
	"mailweir/firewall"
	"mailweir/geo"
)

// The bits of cfg for the world: whether one is loaded, and in which slot.
const (
	cfgGeo     uint64 = 1 << 32
	cfgGeoSlot uint64 = 1 << 33
)

// rows is how many the maps class_action and class_count have: the classes of
// countries, and a half for the networks of each slot.
const rows = bpf.GeoClasses + 2*bpf.GeoNetworks

// probes is about how many addresses are looked up by the packet program before
// a world is put in force. Its tables were checked at every boundary before
// they came here; this is about how they got into the kernel.
const probes = 2000

// places is what the kernel holds of the world.
type places struct {
	world  *geo.Tables  // in force, of those that we loaded
	action [rows]uint64 // the map class_action
}

// adoptPlaces learns which classes an earlier process has denied.
func (t *Table) adoptPlaces() error {
	t.places = places{}
	for row := range t.places.action {
		if err := t.obj.ClassAction.Lookup(uint32(row), &t.places.action[row]); err != nil {
			return fmt.Errorf("read denied classes: %w", err)
		}
	}
	return nil
}

// slot is the one in force.
func (t *Table) slot() uint32 { return uint32(t.word() >> 33 & 1) }

// writePlaces makes world, which may be nil, the one in force, and has new
// connections dropped from where deny says. A packet meets the old world or the
// new one, and of networks the rules that go with it; countries have one row of
// rules for both worlds, so that those are in force a moment before the new one.
func (t *Table) writePlaces(world *geo.Tables, deny []geo.Rule) error {
	if world == nil {
		t.ahead.drop()
		return t.noWorld()
	}
	slot := t.slot()
	if world == t.places.world {
		return t.deny(world, slot, deny)
	}
	if t.word()&cfgGeo != 0 {
		slot ^= 1
	}
	if err := t.loadWorld(slot, world); err != nil {
		return errors.Join(err, t.dropWorld(slot))
	}
	reach(stepWorldIn)
	if err := t.deny(world, slot, deny); err != nil {
		return errors.Join(err, t.dropWorld(slot))
	}
	reach(stepDenied)
	if err := t.carryCounts(world, slot); err != nil {
		return errors.Join(err, t.dropWorld(slot))
	}
	t.setWord(t.word()&^cfgGeoSlot | cfgGeo | uint64(slot)<<33)
	t.places.world = world
	reach(stepWorldTurned)
	bpf.WaitForPackets() // one may be reading the rules of the other slot
	err := t.dropWorld(slot ^ 1)
	reach(stepWorldOut)
	return err
}

// noWorld leaves nobody anywhere.
func (t *Table) noWorld() error {
	t.setWord(t.word() &^ cfgGeo)
	t.places.world = nil
	err := errors.Join(t.dropWorld(0), t.dropWorld(1))
	return errors.Join(err, t.setActions(0, bpf.GeoClasses, nil))
}

// prepared is a world in the kernel that is in no slot yet.
type prepared struct {
	mu    sync.Mutex // the table's may be held already
	world *geo.Tables
	m     *ebpf.Map
}

// Prepare brings a world into the kernel, where Configure finds it. It holds up
// no method but a Configure with a world.
func (t *Table) Prepare(world *geo.Tables) error {
	t.mu.Lock()
	stands := world == t.places.world
	t.mu.Unlock()
	if stands {
		return nil
	}
	t.ahead.mu.Lock()
	defer t.ahead.mu.Unlock()
	if world == t.ahead.world {
		return nil
	}
	m, err := newWorld(world)
	if err != nil {
		return err
	}
	t.ahead.put(world, m)
	return nil
}

// drop lets go of what was prepared.
func (p *prepared) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(nil, nil)
}

// put takes the place of what was prepared before.
func (p *prepared) put(world *geo.Tables, m *ebpf.Map) {
	if p.m != nil {
		p.m.Close()
	}
	p.world, p.m = world, m
}

// take returns the map of a world, made now if it was not prepared; the caller
// closes it. One prepared for another world is let go.
func (p *prepared) take(world *geo.Tables) (*ebpf.Map, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.m; world == p.world && m != nil {
		p.world, p.m = nil, nil
		return m, nil
	}
	p.put(nil, nil)
	return newWorld(world)
}

// newWorld brings a world into the kernel, and looks addresses up in it there:
// it is right, or not had.
func newWorld(world *geo.Tables) (*ebpf.Map, error) {
	spec, err := bpf.LoadFilter()
	if err != nil {
		return nil, fmt.Errorf("read the packet program: %w", err)
	}
	m, err := ebpf.NewMap(spec.Maps[bpf.FilterMapGeo].InnerMap)
	if err != nil {
		return nil, explain("make room for countries", err)
	}
	if err := m.Put(uint32(0), worldOf(world)); err != nil {
		return nil, errors.Join(explain("load countries", err), m.Close())
	}
	if err := probeWorld(spec, m, world); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// loadWorld fills a slot that is not in force.
func (t *Table) loadWorld(slot uint32, world *geo.Tables) error {
	m, err := t.ahead.take(world)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := t.obj.Geo.Put(slot, m); err != nil {
		return fmt.Errorf("load countries: %w", err)
	}
	return nil
}

// probeWorld asks the packet program's own code where some addresses are, those
// at boundaries among them. It runs beside the one in force, with a slot of its
// own, so that nobody has to wait.
func probeWorld(spec *ebpf.CollectionSpec, m *ebpf.Map, world *geo.Tables) error {
	var own struct {
		Look *ebpf.Program `ebpf:"mailweir_geo"`
		Geo  *ebpf.Map     `ebpf:"geo"`
	}
	if err := spec.LoadAndAssign(&own, nil); err != nil {
		return explain("load what looks countries up", err)
	}
	defer own.Look.Close()
	defer own.Geo.Close()
	if err := own.Geo.Put(uint32(0), m); err != nil {
		return fmt.Errorf("look into the countries just loaded: %w", err)
	}
	const about = 3 * 700_000 // of the database that comes with the program
	step, i := about/probes, 0
	for a := range world.AtBoundaries() {
		if i++; i%step != 1 {
			continue
		}
		got, err := kindOf(own.Look, 0, a)
		if err != nil {
			return err
		}
		if want := world.Lookup(a); got != want {
			return fmt.Errorf("look up %v in the countries just loaded: it is of kind %#x, not %#x (set firewall.engine to \"nft\" and report this)", a, got, want)
		}
	}
	return nil
}

// kindOf asks the packet program where an address is.
func kindOf(look *ebpf.Program, slot uint32, a netip.Addr) (geo.Kind, error) {
	frame := synFrame(a, 25)
	frame[0] = byte(slot)
	kind, err := look.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		return 0, explain("look up an address", err)
	}
	return geo.Kind(kind), nil
}

// worldOf lays tables out as the packet program reads them.
func worldOf(t *geo.Tables) *bpf.GeoWorld {
	w := new(bpf.GeoWorld)
	copy(w.V4[:], t.V4)
	for i := range w.Wide4 {
		w.Wide4[i] = w.V4[i<<8]
		if slices.ContainsFunc(w.V4[i<<8:i<<8+256], func(place uint8) bool { return place != w.Wide4[i] }) {
			w.Wide4[i] = bpf.GeoMixed
		}
	}
	for i, k := range t.Kinds {
		w.Kinds[i] = uint32(k)
	}
	copy(w.Index4[:], t.Index4)
	for i, r := range t.Split4 {
		w.Split4[i] = bpf.GeoRun4{Start: r.Start, Kind: uint32(r.Kind)}
	}
	copy(w.Index6[:], t.Index6)
	for i, r := range t.Runs6 {
		w.Start6[i], w.Kind6[i] = r.Start, uint32(r.Kind)
	}
	for i, d := range t.Deep6 {
		w.Deep6[i] = bpf.GeoDeep6{Hi: d.Hi, Lo: d.Lo, Kind: uint64(d.Kind)}
	}
	w.Count6, w.CountDeep = uint32(len(t.Runs6)), uint32(len(t.Deep6))
	return w
}

// dropWorld frees a slot.
func (t *Table) dropWorld(slot uint32) error {
	if err := t.obj.Geo.Delete(slot); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unload countries: %w", err)
	}
	return t.setActions(networkRow(slot, 0), bpf.GeoNetworks, nil)
}

// networkRow is the row of a network of the world in a slot.
func networkRow(slot uint32, network int) int {
	return bpf.GeoClasses + int(slot)*bpf.GeoNetworks + network
}

// deny makes what rules name, and nothing else, denied. A rule for a network
// that the world does not know is about nobody.
func (t *Table) deny(world *geo.Tables, slot uint32, rules []geo.Rule) error {
	const denied = 1 << groupMail
	countries, networks := make(map[int]uint64), make(map[int]uint64)
	for _, r := range rules {
		switch class, network, known := world.Of(r); {
		case network != 0 && known:
			networks[networkRow(slot, network)] = denied
		case class != 0:
			countries[int(class)] = denied
		}
	}
	return errors.Join(
		t.setActions(0, bpf.GeoClasses, countries),
		t.setActions(networkRow(slot, 0), bpf.GeoNetworks, networks))
}

// setActions makes want the actions of n rows, those that are not in it none:
// one store for each that changes.
func (t *Table) setActions(first, n int, want map[int]uint64) error {
	for row := first; row < first+n; row++ {
		if t.places.action[row] == want[row] {
			continue
		}
		if err := t.obj.ClassAction.Put(uint32(row), want[row]); err != nil {
			return fmt.Errorf("deny or admit a class: %w", err)
		}
		t.places.action[row] = want[row]
	}
	return nil
}

// carryCounts gives the networks of a new world their counts in the old one.
func (t *Table) carryCounts(world *geo.Tables, slot uint32) error {
	old := make(map[uint32]bpf.FilterGeoCount)
	if t.places.world != nil {
		for i, asn := range t.places.world.ASNs {
			n, err := t.placeCount(networkRow(slot^1, i+1))
			if err != nil {
				return err
			}
			old[asn] = n
		}
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count processors: %w", err)
	}
	for i, asn := range world.ASNs {
		perCPU := make([]bpf.FilterGeoCount, cpus)
		perCPU[0] = old[asn]
		if err := t.obj.ClassCount.Put(uint32(networkRow(slot, i+1)), perCPU); err != nil {
			return fmt.Errorf("begin to count a network: %w", err)
		}
	}
	return nil
}

func (t *Table) placeCount(row int) (sum bpf.FilterGeoCount, err error) {
	var perCPU []bpf.FilterGeoCount
	if err := t.obj.ClassCount.Lookup(uint32(row), &perCPU); err != nil {
		return sum, fmt.Errorf("read counts of places: %w", err)
	}
	for _, n := range perCPU {
		sum.Seen += n.Seen
		sum.Denied += n.Denied
	}
	return sum, nil
}

// readPlaces reads the counts of all places that somebody came from.
func (t *Table) readPlaces() (map[string]firewall.Place, error) {
	names := make(map[int]string)
	for row := range bpf.GeoClasses {
		if name := geo.Class(row).String(); name != "" || row == 0 {
			names[row] = name
		}
	}
	if t.places.world != nil {
		for i, asn := range t.places.world.ASNs {
			names[networkRow(t.slot(), i+1)] = geo.Rule{ASN: asn}.String()
		}
	}
	counts := make(map[string]firewall.Place)
	for row, name := range names {
		n, err := t.placeCount(row)
		if err != nil {
			return nil, err
		}
		if n.Seen > 0 {
			counts[name] = firewall.Place{Seen: n.Seen, Denied: n.Denied}
		}
	}
	return counts, nil
}
