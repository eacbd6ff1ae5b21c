package xdp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// draw is a crowd of sources: of a family, numbers [from, from+count) of source.
type draw struct {
	family      int
	from, count uint32
}

// source4 and source6 number the sources of the world; walk computes the same.
func source4(n uint32) netip.Addr {
	n = mix32(n)
	first := n>>24*222>>8 + 1 // 1 to 222
	if first == 127 {
		first = 223
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n&0xffffff|first<<24)))
}

func source6(n uint32) netip.Addr {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint64(b, uint64(n)*spread&^0xff|0x20)
	b[15] = 1
	return netip.AddrFrom16([16]byte(b))
}

const spread = 0x9e3779b97f4a7c15

func mix32(n uint32) uint32 {
	n = (n ^ n>>16) * 0x85ebca6b
	n = (n ^ n>>13) * 0xc2b2ae35
	return n ^ n>>16
}

// walker returns a program that gives the packet of a test run another source of
// a crowd each time and goes on with prog. The kernel repeats a run many thousand
// times in one call and times them together, but with the same packet: only a
// program can make them differ. It computes the source from a counter, so that it
// touches no memory that prog would need. An empty prog behind a walker says what
// walking costs.
func walker(b *testing.B, prog *ebpf.Program, d draw) *ebpf.Program {
	b.Helper()
	next := newMap(b, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	progs := newMap(b, &ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err := progs.Put(uint32(0), prog); err != nil {
		b.Fatal(err)
	}
	return newProgram(b, d.walk(next.FD(), progs.FD()))
}

func newMap(b *testing.B, spec *ebpf.MapSpec) *ebpf.Map {
	b.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

func newProgram(b *testing.B, ins asm.Instructions) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT", Flags: unix.BPF_F_XDP_HAS_FRAGS, Instructions: ins,
	})
	if err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

// walk is the program.
func (d draw) walk(next, progs int) asm.Instructions {
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), asm.StoreImm(asm.RFP, -8, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, next), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "pass"),
		// A number in the crowd, by a counter that is mixed.
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), asm.Add.Imm(asm.R1, 1), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.LoadImm(asm.R2, -0x61c8864680b583eb, asm.DWord), // spread
		asm.Mul.Reg(asm.R1, asm.R2), asm.Mov.Reg(asm.R3, asm.R1), asm.RSh.Imm(asm.R3, 29), asm.Xor.Reg(asm.R1, asm.R3), asm.Mul.Reg(asm.R1, asm.R2),
		asm.RSh.Imm(asm.R1, 32), asm.LoadImm(asm.R3, int64(d.count), asm.DWord), asm.Mul.Reg(asm.R1, asm.R3), asm.RSh.Imm(asm.R1, 32),
		asm.LoadImm(asm.R3, int64(d.from), asm.DWord), asm.Add.Reg(asm.R1, asm.R3),
	}
	if d.family == 4 {
		ins = append(ins, walk4()...)
	} else {
		ins = append(ins, walk6()...)
	}
	return append(ins,
		asm.Mov.Reg(asm.R1, asm.R6), asm.LoadMapPtr(asm.R2, progs), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"), asm.Return(),
	)
}

// packet puts the packet's beginning into R2, if there are size bytes.
func packet(size int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word), asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, size), asm.JGT.Reg(asm.R4, asm.R3, "pass"),
	}
}

// walk4 writes source4 of R1 into the packet.
func walk4() asm.Instructions {
	mix := func(shift int32) asm.Instructions {
		return asm.Instructions{asm.Mov.Reg32(asm.R2, asm.R1), asm.RSh.Imm32(asm.R2, shift), asm.Xor.Reg32(asm.R1, asm.R2)}
	}
	ins := append(mix(16), asm.Mul.Imm32(asm.R1, -0x7a143595)) // 0x85ebca6b
	ins = append(append(ins, mix(13)...), asm.Mul.Imm32(asm.R1, -0x3d4d51cb))
	ins = append(append(ins, mix(16)...),
		asm.Mov.Reg32(asm.R2, asm.R1), asm.RSh.Imm32(asm.R2, 24), asm.Mul.Imm32(asm.R2, 222), asm.RSh.Imm32(asm.R2, 8), asm.Add.Imm32(asm.R2, 1),
		asm.JNE.Imm(asm.R2, 127, "routed"), asm.Mov.Imm32(asm.R2, 223),
		asm.LSh.Imm32(asm.R2, 24).WithSymbol("routed"), asm.And.Imm32(asm.R1, 0xffffff), asm.Or.Reg32(asm.R1, asm.R2),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
	)
	return append(append(ins, packet(34)...), asm.StoreMem(asm.R2, 26, asm.R1, asm.Word))
}

// walk6 writes source6 of R1 into the packet.
func walk6() asm.Instructions {
	ins := asm.Instructions{
		asm.LoadImm(asm.R2, -0x61c8864680b583eb, asm.DWord), asm.Mul.Reg(asm.R1, asm.R2),
		asm.And.Imm(asm.R1, ^0xff), asm.Or.Imm(asm.R1, 0x20),
	}
	return append(append(ins, packet(54)...), asm.StoreMem(asm.R2, 22, asm.R1, asm.DWord))
}
