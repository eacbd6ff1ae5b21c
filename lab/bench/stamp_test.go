package bench

import (
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// verdict is the function of the mail process that a conviction begins with:
// the verdict is there, and nothing has been done about it.
const verdict = "mailweir/smtp.(*session).convict"

// stamp notes when the running mail process last came to verdict, by
// CLOCK_MONOTONIC, which the packet program's clock is as well. A probe on the
// function writes it, so that the product measured is the product, and nothing
// in it knows of this.
type stamp struct {
	at *ebpf.Map
}

func newStamp(b *testing.B, binary string) *stamp {
	b.Helper()
	at, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { at.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "Dual MIT/GPL", Instructions: asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, at.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.StoreMem(asm.R0, 0, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { prog.Close() })
	program, err := link.OpenExecutable(binary)
	if err != nil {
		b.Fatal(err)
	}
	probe, err := program.Uprobe(verdict, prog, nil)
	if err != nil {
		b.Fatalf("probe %s: %v", verdict, err)
	}
	b.Cleanup(func() { probe.Close() })
	return &stamp{at}
}

// take returns the stamp and clears it.
func (s *stamp) take() (time.Duration, error) {
	var ns uint64
	if err := s.at.Lookup(uint32(0), &ns); err != nil {
		return 0, err
	}
	if ns == 0 {
		return 0, errors.New("nobody was convicted")
	}
	return time.Duration(ns), s.at.Put(uint32(0), uint64(0))
}
