package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// stage is a function of the product that the way of a ban goes through. The
// first is the one in the mail process that a conviction begins with: the
// verdict is there, and nothing has been done about it.
type stage struct{ name, function string }

var stages = []stage{
	{"verdict", "mailweir/smtp.(*session).convict"},
	{"offence sent", "mailweir/firewall/guard.exchange"},
	{"guard has it", "mailweir/firewall/guard.(*Server).judge"},
	{"peer proven", "mailweir/firewall.(*Ledger).ConvictNetwork"},
	{"to the kernel", "mailweir/firewall/xdp.(*Table).Apply"},
	{"kernel told", "mailweir/firewall/guard.Result.append"},
}

// stagesEnv has all stages stamped, and where the time goes printed. Each costs
// a trap, so that the figure itself is taken with the verdict's alone.
const stagesEnv = "MAILWEIR_BENCH_STAGES"

// stamp notes when the running product last came to each stage, by
// CLOCK_MONOTONIC, which the packet program's clock is as well. A probe on the
// function writes it, so that the product measured is the product, and nothing
// in it knows of this.
type stamp struct {
	at *ebpf.Map
	n  int // stages
}

// moments are the stamps of a ban, by stage.
type moments []time.Duration

func newStamp(b *testing.B, binary string) *stamp {
	b.Helper()
	s := &stamp{n: 1}
	if os.Getenv(stagesEnv) != "" {
		s.n = len(stages)
	}
	var err error
	if s.at, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: uint32(s.n)}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.at.Close() })
	program, err := link.OpenExecutable(binary)
	if err != nil {
		b.Fatal(err)
	}
	for i := range s.n {
		s.probe(b, program, i)
	}
	return s
}

func (s *stamp) probe(b *testing.B, program *link.Executable, i int) {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "Dual MIT/GPL", Instructions: asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.StoreImm(asm.RFP, -4, int64(i), asm.Word),
		asm.LoadMapPtr(asm.R1, s.at.FD()),
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
	probe, err := program.Uprobe(stages[i].function, prog, nil)
	if err != nil {
		b.Fatalf("probe %s: %v", stages[i].function, err)
	}
	b.Cleanup(func() { probe.Close() })
}

// take returns the stamps and clears them. One that is not there is 0.
func (s *stamp) take() (moments, error) {
	m := make(moments, s.n)
	for i := range m {
		var ns uint64
		if err := s.at.Lookup(uint32(i), &ns); err != nil {
			return nil, err
		}
		if err := s.at.Put(uint32(i), uint64(0)); err != nil {
			return nil, err
		}
		m[i] = time.Duration(ns)
	}
	if m[0] == 0 {
		return nil, fmt.Errorf("nobody was convicted")
	}
	return m, nil
}

// steps is how long each stage of a ban took until the next, and the last until
// the drop. What did not happen is negative.
type steps []time.Duration

func (m moments) steps(drop time.Duration) steps {
	s := make(steps, len(m))
	for i := range m {
		next := drop
		if i+1 < len(m) {
			next = m[i+1]
		}
		s[i] = next - m[i]
	}
	return s
}

// where says where the time of many bans went, and of the slowest.
func where(all []steps) string {
	var out strings.Builder
	for i := range all[0] {
		var took []time.Duration
		for _, s := range all {
			took = append(took, s[i])
		}
		slices.Sort(took)
		at := func(percent int) time.Duration { return took[(len(took)-1)*percent/100].Round(time.Microsecond) }
		fmt.Fprintf(&out, "\n  from %-14s p50 %v, p90 %v, p99 %v, most %v", stages[i].name, at(50), at(90), at(99), at(100))
	}
	slices.SortFunc(all, func(x, y steps) int { return int(y.sum() - x.sum()) })
	for _, s := range all[:min(len(all), 12)] {
		fmt.Fprintf(&out, "\n  slow: %v = %v", s.sum().Round(time.Microsecond), []time.Duration(s))
	}
	return out.String()
}

func (s steps) sum() (d time.Duration) {
	for _, one := range s {
		d += one
	}
	return d
}
