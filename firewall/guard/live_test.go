package guard

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/nft"
	"mailweir/firewall/xdp"
)

// liveBans is how many sources are banned, 65,536 of each of 11.0.0.0/16 to
// 11.15.0.0/16. Every frame is from one of them.
const (
	liveBans  = 1 << 20
	liveBurst = 1 << 16 // frames of a /16
)

// BenchmarkLive sends frames of banned sources over a veth pair, one of each
// source, to the engines with the same bans and to a program that only drops.
// The generator is in the figure and the same for all. What the receiver has
// not counted was lost before it: only what was seen counts for the rate.
func BenchmarkLive(b *testing.B) {
	for _, r := range []struct {
		name string
		open func(*testing.B, *enginetest.World) (seen func() (uint64, error), err error)
	}{
		{"bare drop", liveBare},
		{"xdp native", liveXDP(xdp.Native)},
		{"xdp generic", liveXDP(xdp.Generic)},
		{"nft", liveNFT},
	} {
		b.Run(r.name, func(b *testing.B) {
			w := enginetest.NewWorld(b)
			var seen func() (uint64, error)
			check(b, w.Inside(func() (err error) {
				if err := receiveAll(enginetest.Interface); err != nil {
					return err
				}
				seen, err = r.open(b, w)
				return err
			}))
			var total, offered uint64
			var took time.Duration
			for b.Loop() {
				before := must(seen())(b)
				check(b, w.Outside(func() error { return sendAll(&took) }))
				offered += liveBans
				deadline := time.Now().Add(time.Second) // the last of them may be under way
				for must(seen())(b)-before < liveBans && time.Now().Before(deadline) {
					continue
				}
				total += must(seen())(b) - before
			}
			b.ReportMetric(float64(total)/took.Seconds()/1e6, "Mframes/s-seen")
			b.ReportMetric(float64(offered)/took.Seconds()/1e6, "Mframes/s-offered")
			b.ReportMetric(100*float64(offered-min(total, offered))/float64(offered), "%-lost")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func liveXDP(mode xdp.Mode) func(*testing.B, *enginetest.World) (func() (uint64, error), error) {
	return func(b *testing.B, w *enginetest.World) (func() (uint64, error), error) {
		t, err := xdp.Open(xdp.Options{PinDir: enginetest.PinDir(b), Mode: mode})
		if err != nil {
			return nil, err
		}
		return liveEngine(b, w, t)
	}
}

func liveNFT(b *testing.B, w *enginetest.World) (func() (uint64, error), error) {
	t, err := nft.Open(nft.Options{})
	if err != nil {
		return nil, err
	}
	return liveEngine(b, w, t)
}

func liveEngine(b *testing.B, w *enginetest.World, e interface {
	firewall.Enforcer
	Counters(context.Context) (firewall.Counters, error)
}) (func() (uint64, error), error) {
	ctx := context.Background()
	b.Cleanup(func() { check(b, e.Close()) })
	rules := firewall.Rules{Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}}
	if err := e.Configure(ctx, rules); err != nil {
		return nil, err
	}
	if err := e.Replace(ctx, eachLiveBan()); err != nil {
		return nil, err
	}
	return func() (n uint64, err error) {
		err = w.Inside(func() error {
			c, err := e.Counters(ctx)
			n = c.Reasons["banned"]
			return err
		})
		return n, err
	}, nil
}

func eachLiveBan() iter.Seq[firewall.Ban] {
	until := time.Now().Add(time.Hour)
	return func(yield func(firewall.Ban) bool) {
		for i := range uint32(liveBans) {
			a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 11<<24|i)))
			if !yield(firewall.Ban{Prefix: netip.PrefixFrom(a, 32), Until: until}) {
				return
			}
		}
	}
}

// liveBare drops and counts.
func liveBare(b *testing.B, _ *enginetest.World) (func() (uint64, error), error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	prog, err := liveProgram(append(countUp(m), asm.Mov.Imm(asm.R0, 1), asm.Return()))
	if err != nil {
		return nil, err
	}
	i, err := net.InterfaceByName(enginetest.Interface)
	if err != nil {
		return nil, err
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: i.Index, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { l.Close(); prog.Close(); m.Close() })
	return func() (n uint64, err error) { return n, m.Lookup(uint32(0), &n) }, nil
}

func liveProgram(ins asm.Instructions) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "MIT", Instructions: ins})
}

// countUp adds one to the value of m, and leaves the sum in R1, the context in R6.
func countUp(m *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4), asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "counted"), asm.Mov.Imm(asm.R0, 0), asm.Return(),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord).WithSymbol("counted"), asm.Add.Imm(asm.R1, 1), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
	}
}

// sendAll sends a frame of each banned source out of the client's interface.
// The generator is a program that writes the last half of the source, and its
// complement into the identification, so that the checksum stays right.
func sendAll(took *time.Duration) error {
	i, err := net.InterfaceByName(enginetest.Peer)
	if err != nil {
		return err
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return err
	}
	defer m.Close()
	prog, err := liveProgram(append(countUp(m),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word), asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 34), asm.JGT.Reg(asm.R4, asm.R3, "out"),
		asm.StoreMem(asm.R2, 28, asm.R1, asm.Half), asm.Xor.Imm(asm.R1, -1), asm.StoreMem(asm.R2, 18, asm.R1, asm.Half),
		asm.Mov.Imm(asm.R1, int32(i.Index)).WithSymbol("out"), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
	))
	if err != nil {
		return err
	}
	defer prog.Close()
	for n := range byte(liveBans / liveBurst) {
		start := time.Now()
		_, err := prog.Run(&ebpf.RunOptions{Data: liveFrame(n), Repeat: liveBurst, Flags: 1 << 1}) // BPF_F_TEST_XDP_LIVE_FRAMES
		*took += time.Since(start)
		if err != nil {
			return fmt.Errorf("send frames: %w", err)
		}
	}
	return nil
}

// liveFrame is a SYN of 11.n.0.0 to everybody on the link.
func liveFrame(n byte) []byte {
	f := make([]byte, 60)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0})
	ip, tcp := f[14:34], f[34:]
	copy(ip, []byte{0x45, 0, 0, 40, 0xff, 0xff, 0, 0, 64, unix.IPPROTO_TCP, 0, 0, 11, n, 0, 0, 198, 18, 0, 1})
	tcp[0], tcp[3], tcp[12], tcp[13] = 0xc0, enginetest.Mail, 0x50, 2
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum%0xffff))
	return f
}

// receiveAll turns GRO on: a veth without it and without a native program takes
// no frame of the generator's kind, and would look fast.
func receiveAll(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	value := struct{ cmd, data uint32 }{0x2c, 1} // ETHTOOL_SGRO
	request := struct {
		name [16]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("turn GRO on at %s: %w", name, errno)
	}
	return nil
}
