package bpf

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes maps in the kernel")
	}
}

func makeBans(t testing.TB, v6 bool, h Hash) *Bans {
	t.Helper()
	needRoot(t)
	b, err := MakeBans(v6, MinBans, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// known is a ban of the model that a table is held against.
type known struct{ end, hits uint32 }

func randomKey(r *rand.Rand, v6 bool, from uint64) Key {
	n := r.Uint64N(from)
	if !v6 {
		return Key{Hi: n, Bits: 32}
	}
	bits := []uint8{48, 56, 64, 128}[r.IntN(4)]
	k := Key{Hi: n << 16, Bits: bits} // in the bytes that all lengths have
	if bits == 128 {
		k.Lo = r.Uint64N(4)
	}
	return k
}

// A table holds what was put into it and not removed, with its end and its
// hits, whatever the order, under a clock that the test turns; and every bit of
// its hint is set for a ban that is there.
func TestBansAgreeWithAModel(t *testing.T) { // R-BX-18
	for _, v6 := range []bool{false, true} {
		b := makeBans(t, v6, NewHash())
		seed := rand.Uint64()
		t.Logf("IPv6 %v: seed %d", v6, seed)
		r := rand.New(rand.NewPCG(seed, 0))
		model := map[Key]known{}
		refused := 0
		for now := uint32(1); now < 40_000; now++ {
			k := randomKey(r, v6, uint64(b.Capacity())*2)
			switch r.IntN(7) {
			case 0, 1, 2:
				refused += put(t, b, model, k, now, now+1+r.Uint32N(20_000))
			case 3:
				_, had := model[k]
				if got := b.Remove(k); got != had {
					t.Fatalf("remove %v: %v", k, got)
				}
				delete(model, k)
			case 4:
				if n, _, ok := b.Find(k); ok {
					b.AddHits(n, 3)
					model[k] = known{model[k].end, model[k].hits + 3}
				}
			default:
				n, end, ok := b.Find(k)
				if want, had := model[k]; ok != had || had && (end != want.end || b.Hits(n) != want.hits) {
					t.Fatalf("find %v: %d, %v; want %+v, %v", k, end, ok, want, had)
				}
			}
		}
		compare(t, b, model)
		if refused == 0 || len(model) < b.Capacity()*9/10 {
			t.Errorf("IPv6 %v: %d of %d slots used, %d refused: the table was never full", v6, len(model), b.Capacity(), refused)
		}
	}
}

// put puts k into table and model. It counts a refusal.
func put(t *testing.T, b *Bans, model map[Key]known, k Key, now, end uint32) int {
	t.Helper()
	old, had := model[k]
	fresh, ok := b.Put(k, end, now)
	if !ok {
		if had {
			t.Fatalf("no room for %v, which is there", k)
		}
		return 1
	}
	over := !had || old.end <= now
	if fresh != over {
		t.Fatalf("put %v at %d over %+v: fresh %v", k, now, old, fresh)
	}
	if over {
		old.hits = 0
	}
	model[k] = known{end, old.hits}
	return 0
}

// compare holds all of the table, and its hint, against the model.
func compare(t *testing.T, b *Bans, model map[Key]known) {
	t.Helper()
	need := make([]uint64, len(b.hint[0].word))
	found := 0
	b.Each(func(n int, k Key, end uint32) {
		found++
		if want := model[k]; want.end != end || want.hits != b.Hits(n) {
			t.Errorf("%v: %d, %d hits; want %+v", k, end, b.Hits(n), want)
		}
		bit := uint(b.home(k).first)<<hintLog | b.home(k).tag
		need[bit/64] |= 1 << (bit % 64)
	})
	if found != len(model) || b.Used() != found {
		t.Errorf("%d bans, and %d by its own count; want %d", found, b.Used(), len(model))
	}
	if len(b.hint) != 1 || !slices.Equal(need, b.hint[0].word) {
		t.Error("the hint is not that of the bans")
	}
}

// Keys come back as they were, and none is free.
func TestKeys(t *testing.T) {
	for _, s := range []string{"192.0.2.7/32", "255.255.255.255/32", "2001:db8::1/128", "2001:db8:0:1::/64", "2001:db8::/48", "ff00::/56"} {
		p := netip.MustParsePrefix(s)
		if got := KeyOf(p).Prefix(p.Addr().Is6()); got != p {
			t.Errorf("%s comes back as %s", p, got)
		}
	}
}

// Ends in ticks are never before the end.
func TestTicks(t *testing.T) {
	for _, until := range []uint64{1, 1<<TickShift - 1, 1 << TickShift, 1<<TickShift + 1, 1 << 58, 1<<59 - 1, 1 << 59, 1 << 63, 1<<64 - 1} {
		ticks := Ticks(until)
		if back := Until(ticks); back < until || ticks != ForEver && back-until >= 1<<TickShift {
			t.Errorf("%d ends at %d", until, back)
		}
	}
}

// kernel is the packet program at one port, with tables of single bans.
type kernel struct {
	FilterObjects
	t    *testing.T
	bans [2]*Bans
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	needRoot(t)
	k := &kernel{t: t}
	if err := LoadFilterObjects(&k.FilterObjects, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	h := NewHash()
	for i, outer := range []*ebpf.Map{k.Ban4, k.Ban6} {
		k.bans[i] = makeBans(t, i == 1, h)
		k.bans[i].Live = runtime.Gosched
		k.put(outer, uint32(2*MinBans), k.bans[i].Map)
		if err := k.bans[i].HintIn([]*ebpf.Map{k.Hint4, k.Hint6}[i], 2*MinBans); err != nil {
			t.Fatal(err)
		}
	}
	k.put(k.Cfg, 0, FilterConfig{Mode: 0x1f<<8 | 2*MinBans<<16 | 2*MinBans<<24, Key: h})
	k.put(k.Ports, 25/8, uint64(1)<<8)
	return k
}

func (k *kernel) put(m *ebpf.Map, key uint32, value any) {
	k.t.Helper()
	if err := m.Put(key, value); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) counted(reason uint32) (sum uint64) {
	k.t.Helper()
	var perCPU []uint64
	if err := k.Counters.Lookup(reason, &perCPU); err != nil {
		k.t.Fatal(err)
	}
	for _, v := range perCPU {
		sum += v
	}
	return sum
}

// The reasons that are told apart here, by their numbers in filter.c.
const (
	reasonClean  = 6
	reasonBanned = 10
)

// hammer hands a SYN of src to the program again and again while write works.
func (k *kernel) hammer(src Key, v6 bool, rounds int, write func(round int)) {
	k.t.Helper()
	var done atomic.Bool
	result := make(chan error)
	go func() {
		var err error
		for !done.Load() && err == nil {
			_, _, err = k.Mailweir.Benchmark(syn(src, v6), 20_000, nil)
		}
		result <- err
	}()
	for round := range rounds {
		write(round)
	}
	done.Store(true)
	if err := <-result; err != nil {
		k.t.Fatal(err)
	}
}

// afterPacket returns when the one packet that can be under way has ended, a
// thousand times sooner than the kernel's own way of waiting.
func (k *kernel) afterPacket() {
	sum := func() uint64 { return k.counted(reasonClean) + k.counted(reasonBanned) }
	now := sum()
	for range 10_000_000 {
		if sum() >= now+2 {
			return
		}
	}
	k.t.Fatal("no packet comes any more")
}

// syn is a SYN of k to port 25.
func syn(k Key, v6 bool) []byte {
	b := make([]byte, 14+20+20)
	if !v6 {
		b[12], b[14], b[17], b[23] = 8, 0x45, 40, 6
		binary.NativeEndian.PutUint32(b[26:], uint32(k.Hi))
	} else {
		b = append(b, make([]byte, 20)...)
		b[12], b[13], b[14], b[19], b[20] = 0x86, 0xdd, 0x60, 20, 6
		binary.NativeEndian.PutUint64(b[22:], k.Hi)
		binary.NativeEndian.PutUint64(b[30:], k.Lo)
	}
	tcp := b[len(b)-20:]
	tcp[3], tcp[12], tcp[13] = 25, 0x50, 2
	return b
}

// An innocent whose address is one half of a ban's and one half of another's,
// which follow each other in one slot, is never hit (torn reads).
func TestTornReadHitsNobody(t *testing.T) {
	k := newKernel(t)
	b := k.bans[1]
	key := func(hi, lo uint64) Key { return Key{0x20 | hi<<32, lo, 128} }
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	find := func(bucket int, hi ...uint64) uint64 {
		for {
			lo := r.Uint64()
			if !slices.ContainsFunc(hi, func(h uint64) bool { return b.home(key(h, lo)).first != bucket }) {
				return lo
			}
		}
	}
	one := key(1, find(7, 1))
	other := key(2, find(7, 1, 2))
	innocent := Key{one.Hi, other.Lo, 128}
	word, bit := b.hinted(b.home(innocent))
	*word |= bit // as if there were a third ban to look for
	k.hammer(innocent, true, 100_000, func(int) {
		for _, ban := range []Key{one, other} {
			b.Put(ban, ForEver, 0)
			b.Remove(ban)
			*word |= bit
		}
	})
	if n := k.counted(reasonBanned); n != 0 {
		t.Errorf("an innocent was hit %d times", n)
	}
	if k.counted(reasonClean) == 0 {
		t.Error("nobody looked")
	}
}

// Whose writer died while it moved a ban leaves it in two slots: the next one
// lifts it from both, and counts what both have dropped.
func TestHalfMovedBan(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b := makeBans(t, v6, NewHash())
		k := randomKey(rand.New(rand.NewPCG(1, 2)), v6, 1<<20)
		b.Put(k, 7, 0)
		from, _, _ := b.Find(k)
		h := b.home(k)
		to, _ := b.freeIn(h.first ^ h.second ^ from/b.slots())
		b.AddHits(from, 2)
		b.write(to, k, 7) // and died
		b.AddHits(to, 3)
		m, err := b.Map.Clone()
		if err != nil {
			t.Fatal(err)
		}
		next, err := OpenBans(m, v6, b.Log2, b.hash)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		if _, _, stands := b.Find(k); !stands || next.Used() != 2 {
			t.Errorf("IPv6 %v: opening it has changed it: %d used", v6, next.Used())
		}
		next.DropCopies()
		compare(t, next, map[Key]known{k: {7, 5}})
		if next.Remove(k); next.Remove(k) {
			t.Errorf("IPv6 %v: it was there after it was lifted", v6)
		}
		compare(t, next, nil)
	}
}

// A ban that is renewed, and moved to make room, is never missing.
func TestMovedBanIsNeverMissing(t *testing.T) { // R-BX-15
	for i, v6 := range []bool{false, true} {
		k := newKernel(t)
		b := k.bans[i]
		standing := Key{Hi: 7<<24 | 9, Bits: 32}
		if v6 {
			standing = Key{0x20 | 5<<32, 0, 64}
		}
		b.Put(standing, ForEver, 0)
		before := k.counted(reasonClean)
		b.Live = k.afterPacket
		k.hammer(standing, v6, 10_000, func(round int) {
			n, _, _ := b.Find(standing)
			h := b.home(standing)
			to, free := b.freeIn(h.first ^ h.second ^ n/b.slots())
			if !free {
				t.Fatal("no slot to move to")
			}
			b.move(n, to)
			b.Put(standing, ForEver-uint32(round%2), 0)
		})
		if n := k.counted(reasonClean) - before; n != 0 {
			t.Errorf("IPv6 %v: the ban was missing for %d packets", v6, n)
		}
		if k.counted(reasonBanned) == 0 {
			t.Error("nobody looked")
		}
	}
}

// Who sees a ban sees no stamp of a former one: the packet that comes first must
// not have its stamp cleared, however soon it comes.
func TestStampIsClearedBeforeTheBan(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b := makeBans(t, v6, NewHash())
		b.Firsts = Firsts{make([]uint64, 64)}
		ban := Key{Hi: 7<<24 | 9, Bits: 32}
		if v6 {
			ban = Key{0x20 | 5<<32, 0, 64}
		}
		n, _ := b.freeIn(b.home(ban).first) // where it comes every time
		end := b.word4(n)
		if v6 {
			end = &b.slot[4*n+meta]
		}
		sum := b.hash.Sum(ban, v6)
		var done atomic.Bool
		early := 0
		var seen atomic.Int64
		var watch sync.WaitGroup
		watch.Go(func() {
			for !done.Load() {
				if w := atomic.LoadUint64(end); w>>32 != 0 {
					stamped := b.Firsts.At(sum) != 0
					if atomic.LoadUint64(end) != w {
						continue // another round has begun
					}
					if seen.Add(1); stamped {
						early++
					}
				}
			}
		})
		for round := uint32(0); round < 200_000 || round < 20_000_000 && seen.Load() < 100; round++ {
			p := b.Firsts.pair(sum)
			atomic.StoreUint64(&p[1], 7)
			atomic.StoreUint64(&p[0], 7^sum)
			b.Put(ban, 1+round, 0)
			b.Remove(ban)
		}
		done.Store(true)
		watch.Wait()
		if early > 0 || seen.Load() == 0 {
			t.Errorf("IPv6 %v: of %d looks at the ban %d saw an old stamp", v6, seen.Load(), early)
		}
	}
}

// A new ban waits for nothing while there are few: moving another out of its way
// waits for packets, which takes tens of milliseconds.
func TestFewBansAreNotMoved(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b, err := MakeBans(v6, MinBans, Hash{0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		waits, n := 0, 0
		b.Live = func() { waits++ }
		for ; b.Room(1); n++ {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 32)
			if v6 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(n >> 8), byte(n)}), 64)
			}
			if _, ok := b.Put(KeyOf(p), 1<<20, 0); !ok {
				t.Fatalf("no place for ban %d", n)
			}
		}
		if n < 256 || waits > 0 {
			t.Errorf("v6 %v: of %d bans %d waited", v6, n, waits)
		}
	}
}
