package xdp

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// walker returns a program that gives the packet of a test run the next source
// of a crowd and goes on with prog. The kernel repeats a run many thousand times
// in one call and times them together, but with the same packet: only a program
// can make them differ. An empty prog behind a walker says what walking costs.
func walker(b *testing.B, prog *ebpf.Program, frames [][]byte) *ebpf.Program {
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
		Instructions: walk(sources.FD(), next.FD(), progs.FD(), int32(len(frames)), from, size),
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

// walk is the program: take the next number, its source, write it into the
// packet, and go on.
func walk(sources, next, progs int, crowd int32, from, size int16) asm.Instructions {
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
