package xdp

import (
	"testing"

	"github.com/cilium/ebpf/asm"

	"mailweir/firewall"
)

// BenchmarkSYN measures what counting costs a packet that opens a connection:
// without a limit, with one for each source, and with that of networks too, as
// while the flood guard is active. No limit is reached in the crowd; the hot
// source is over it all the time.
func BenchmarkSYN(b *testing.B) {
	t := benchTable(b, 0)
	empty := newProgram(b, asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()})
	for _, c := range []struct {
		name  string
		rules firewall.Rules
		flood bool
	}{
		{"unlimited", firewall.Rules{}, false},
		{"limited", firewall.Rules{SYNPerMinute: 240}, false},
		{"flood", firewall.Rules{SYNPerMinute: 240, FloodPerSecond: 1}, true},
	} {
		c.rules.Ports = []uint16{25}
		if err := t.Configure(b.Context(), c.rules); err != nil {
			b.Fatal(err)
		}
		if c.flood {
			t.setWord(t.word() | cfgFlood)
		}
		for _, family := range []int{4, 6} {
			measure(b, t.obj.Mailweir, empty, c.name, draw{family, 0, 1 << 31})
		}
	}
	announce(b, 0)
}
