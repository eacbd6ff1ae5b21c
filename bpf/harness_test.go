package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"mailweir/bpf"
)

// The verdicts of XDP that the program knows.
const (
	drop = 1
	pass = 2
)

// filter is the program with the maps of a model.
type filter struct {
	obj    bpf.FilterObjects
	bans   [2]*bpf.Bans // of IPv4 and of IPv6
	firsts bpf.Firsts
	hint   bpf.PrefixHint
	allow  bpf.PrefixHint // of generation 1
	hash   bpf.Hash
	counts [reasonCount]uint64
	model  model
}

// world is the model that fixtures and fuzzing run against. Every length that
// has a table of its own is there, a ban that is over inside one that stands,
// and the other way round.
func world() model {
	m := model{ports: map[uint16]bool{25: true, 587: true, 65535: true}, bans: map[netip.Prefix]bool{}}
	for _, p := range []string{
		"192.0.2.1/32", "192.0.2.9/32", "10.0.0.0/8", "172.16.5.0/24",
		"2001:db8::1/128", "2001:db8:0:1::/64", "2001:db8:0:100::/56", "2001:db8:1::/48", "2001:db8:8000::/33", "2001:db8:2::/47",
	} {
		m.bans[netip.MustParsePrefix(p)] = true
	}
	for _, p := range []string{
		"192.0.2.3/32", "10.1.0.0/16", "10.1.1.0/24", "172.16.0.0/12",
		"2001:db8::3/128", "2001:db8:0:3::/64", "2001:db8:ff00::/40", "2001:db8:ff00::/45",
	} {
		m.bans[netip.MustParsePrefix(p)] = false
	}
	for _, p := range []string{"192.0.2.9/32", "10.9.0.0/16", "2001:db8:1:9::/64"} {
		m.allow = append(m.allow, netip.MustParsePrefix(p))
	}
	return m
}

func load(t testing.TB, m model) *filter {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads a program into the kernel")
	}
	f := &filter{model: m}
	if err := bpf.LoadFilterObjects(&f.obj, nil); err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(func() { f.obj.Close() })
	f.fill(t)
	return f
}

// fill writes the model into generation 1 of the maps.
func (f *filter) fill(t testing.TB) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hash := bpf.NewHash()
	for i, outer := range []*ebpf.Map{f.obj.Ban4, f.obj.Ban6} {
		table, err := bpf.MakeBans(i == 1, bpf.MinBans, hash)
		must(err)
		t.Cleanup(func() { table.Close() })
		must(outer.Put(uint32(2*bpf.MinBans), table.Map))
		must(table.HintIn([]*ebpf.Map{f.obj.Hint4, f.obj.Hint6}[i], 2*bpf.MinBans))
		f.bans[i] = table
	}
	f.firsts, f.hint = bpf.NewFirsts(memory(t, f.obj.Firsts)), bpf.NewPrefixHint(memory(t, f.obj.PrefixHint))
	f.allow = bpf.NewAllowHints(memory(t, f.obj.AllowHint))[1]
	f.hash = hash
	f.setMode(t, f.mode())
	words := map[uint32]uint64{}
	for p := range f.model.ports {
		words[8192+uint32(p/8)] |= 1 << (p % 8 * 8)
	}
	for k, v := range words {
		must(f.obj.Ports.Put(k, v))
	}
	for _, p := range f.model.allow {
		key := bpf.FilterAllowKey{Bits: uint32(32 + p.Bits()), Generation: 1, Family: 6, Addr: words6(p.Addr())}
		if p.Addr().Is4() {
			key.Family, key.Addr = 4, [4]uint32{word4(p.Addr())}
		}
		f.allow.Add(p)
		must(f.obj.Allow.Put(key, uint32(1)))
	}
	for p, stands := range f.model.bans {
		must(f.ban(p, stands))
	}
}

func (f *filter) ban(p netip.Prefix, stands bool) error {
	b := bpf.FilterBan{Until: 1, Bits: uint32(p.Bits())}
	end := uint32(1)
	if stands {
		b.Until, end = 1<<63, bpf.ForEver
	}
	a := p.Addr()
	switch {
	case a.Is4() && p.Bits() == 32:
		return f.single(0, p, end)
	case !a.Is4() && slices.Contains([]int{128, 64, 56, 48}, p.Bits()):
		return f.single(1, p, end)
	}
	f.hint.Add(p)
	if a.Is4() {
		return f.obj.Prefix4.Put(bpf.FilterPrefix4Key{Bits: uint32(p.Bits()), Addr: word4(a)}, b)
	}
	return f.obj.Prefix6.Put(bpf.FilterPrefix6Key{Bits: uint32(p.Bits()), Addr: words6(a)}, b)
}

func (f *filter) single(family int, p netip.Prefix, end uint32) error {
	if _, ok := f.bans[family].Put(bpf.KeyOf(p), end, 0); !ok {
		return fmt.Errorf("no room for %s", p)
	}
	return nil
}

// mode is the word of cfg: generation 1, every table asked.
func (f *filter) mode() uint64 {
	const places = 2*bpf.MinBans<<16 | 2*bpf.MinBans<<24
	mode := uint64(1) | 0x7f<<8 | places
	if f.model.observe {
		mode |= 2
	}
	return mode
}

func (f *filter) setMode(t testing.TB, mode uint64) {
	t.Helper()
	if err := f.obj.Cfg.Put(uint32(0), bpf.FilterConfig{Mode: mode, Key: f.hash}); err != nil {
		t.Fatal(err)
	}
}

// memory maps a map for the test.
func memory(t testing.TB, m *ebpf.Map) []byte {
	t.Helper()
	mem, err := bpf.Memory(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return mem
}

func word4(a netip.Addr) uint32 { b := a.As4(); return binary.NativeEndian.Uint32(b[:]) }

func words6(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// run hands a frame to the program: its verdict, and the reason that it counted.
func (f *filter) run(t testing.TB, b []byte) (verdict uint32, reason int) {
	t.Helper()
	verdict, err := f.obj.Mailweir.Run(&ebpf.RunOptions{Data: b})
	if err != nil {
		t.Fatalf("run on %d bytes: %v", len(b), err)
	}
	reason = -1
	for i := range f.counts {
		var perCPU []uint64
		if err := f.obj.Counters.Lookup(uint32(i), &perCPU); err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for _, v := range perCPU {
			sum += v
		}
		switch sum - f.counts[i] {
		case 0:
		case 1:
			if reason >= 0 {
				t.Fatalf("counted under %s and %s", reasonNames[reason], reasonNames[i])
			}
			reason = i
		default:
			t.Fatalf("counted %d times under %s", sum-f.counts[i], reasonNames[i])
		}
		f.counts[i] = sum
	}
	if reason < 0 {
		t.Fatal("counted under nothing")
	}
	return verdict, reason
}

// agree fails when program and model differ over a frame.
func (f *filter) agree(t testing.TB, name string, b []byte) int {
	t.Helper()
	want := f.model.judge(b)
	verdict, got := f.run(t, b)
	if got != want {
		t.Errorf("%s: the program says %s, the model %s\n%x", name, reasonNames[got], reasonNames[want], b)
	}
	if dropped := got == banned || got == malformed; dropped != (verdict == drop) || verdict != drop && verdict != pass {
		t.Errorf("%s: verdict %d for %s", name, verdict, reasonNames[got])
	}
	return got
}
