package xdp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// crowd is how many sources there are in a crowd that is written out.
const crowd = 1 << 17

// hot lets the kernel repeat one packet.
func hot(b *testing.B, prog *ebpf.Program, frame []byte) {
	var total time.Duration
	for b.Loop() {
		_, each, err := prog.Benchmark(frame, repeat, nil)
		if err != nil {
			b.Fatal(err)
		}
		total += each
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/packet")
	b.ReportMetric(0, "ns/op")
}

// random gives the packet another source of a crowd at every run.
func random(b *testing.B, prog *ebpf.Program, frames [][]byte) {
	hot(b, crowdWalker(b, prog, frames), frames[0])
}

// empty is a program that passes everything.
func empty(b *testing.B) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

// randomAddr is from the whole unicast space.
func randomAddr(r *rand.Rand, family int) netip.Addr {
	for {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, r.Uint32())))
		if family == 6 {
			b := binary.BigEndian.AppendUint64(nil, r.Uint64()>>3|1<<61) // 2000::/3
			a = netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, r.Uint64())))
		}
		if a.IsGlobalUnicast() && (family == 6 || a.As4()[0] != 0 && a.As4()[0] < 224) {
			return a
		}
	}
}

func cleanFrames(family int) [][]byte {
	r := rand.New(rand.NewPCG(5, uint64(family)))
	frames := make([][]byte, crowd)
	for i := range frames {
		frames[i] = synFrame(randomAddr(r, family), 25)
	}
	return frames
}

// crowdWalker returns a program that gives the packet of a test run the next source
// of a crowd and goes on with prog. The kernel repeats a run many thousand times
// in one call and times them together, but with the same packet: only a program
// can make them differ. An empty prog behind a walker says what walking costs.
func crowdWalker(b *testing.B, prog *ebpf.Program, frames [][]byte) *ebpf.Program {
	b.Helper()
	from, size := int16(26), int16(4)
	if frames[0][12] == 0x86 {
		from, size = 22, 16
	}
	sources := arrayMap(b, uint32(size), uint32(len(frames)))
	for i, f := range frames {
		put(b, sources, uint32(i), f[from:from+size])
	}
	next := arrayMap(b, 4, 1)
	progs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { progs.Close() })
	put(b, progs, 0, prog)
	w, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: crowdWalk(sources.FD(), next.FD(), progs.FD(), int32(len(frames)), from, size),
	})
	if err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { w.Close() })
	return w
}

func arrayMap(b *testing.B, value, entries uint32) *ebpf.Map {
	b.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: value, MaxEntries: entries})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

func put(b *testing.B, m *ebpf.Map, key uint32, value any) {
	b.Helper()
	if err := m.Put(key, value); err != nil {
		b.Fatal(err)
	}
}

// crowdWalk is the program: take the next number, its source, write it into the
// packet, and go on.
func crowdWalk(sources, next, progs int, crowd int32, from, size int16) asm.Instructions {
	lookup := func(fd int) asm.Instructions {
		return asm.Instructions{
			asm.LoadMapPtr(asm.R1, fd),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
		}
	}
	ins := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.StoreImm(asm.RFP, -8, 0, asm.Word)}
	ins = append(ins, lookup(next)...)
	ins = append(ins,
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.Add.Imm(asm.R1, 1), asm.StoreMem(asm.R0, 0, asm.R1, asm.Word),
		asm.And.Imm(asm.R1, crowd-1), asm.StoreMem(asm.RFP, -8, asm.R1, asm.Word),
	)
	ins = append(ins, lookup(sources)...)
	ins = append(ins,
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word), asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, int32(from+size)),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
	)
	for i := int16(0); i < size; i += 4 {
		ins = append(ins, asm.LoadMem(asm.R1, asm.R0, i, asm.Word), asm.StoreMem(asm.R2, from+i, asm.R1, asm.Word))
	}
	return append(ins,
		asm.Mov.Reg(asm.R1, asm.R6), asm.LoadMapPtr(asm.R2, progs), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"), asm.Return(),
	)
}
