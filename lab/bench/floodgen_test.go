package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// floodBlock is 11.0.0.0/12, where all sources of the flood are.
var floodBlock = netip.MustParsePrefix("11.0.0.0/12")

// floodSource numbers them.
func floodSource(n uint32) netip.Addr {
	first := floodBlock.Addr().As4()
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(first[:])|n%floodSources)))
}

// flood sends frames through a packet socket. (A program in a test run would make
// more of them, but each run waits for all processors at its beginning and its
// end, so that it can keep to no rate.)
type flood struct {
	next    uint32 // source
	frames  [floodBurst][]byte
	parts   [floodBurst]unix.Iovec
	message [floodBurst]mmsghdr
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	sent uint32
	_    uint32
}

func newFlood(to netip.Addr) *flood {
	f := &flood{}
	for i := range f.frames {
		f.frames[i] = floodFrame(to)
		f.parts[i].Base = &f.frames[i][0]
		f.parts[i].SetLen(len(f.frames[i]))
		f.message[i].Iov, f.message[i].Iovlen = &f.parts[i], 1
	}
	return f
}

// run sends frames to a host at floodRate, and says how many the kernel took.
func (f *flood) run(to *lab.Host, length time.Duration) (offered uint64, err error) {
	var fd int
	err = to.Outside(func(dev string) error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index}),
		)
	})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	const every = time.Second * floodBurst / floodRate
	start := time.Now()
	for at := time.Duration(0); at < length; at += every {
		time.Sleep(time.Until(start.Add(at)))
		if time.Since(start) > length { // the machine cannot keep to the rate: what was offered says so
			break
		}
		n, err := f.burst(fd)
		if offered += n; err != nil {
			return offered, fmt.Errorf("send frames: %w", err)
		}
	}
	return offered, nil
}

// burst sends a frame of each of the next sources.
func (f *flood) burst(fd int) (sent uint64, err error) {
	for _, frame := range f.frames {
		a := floodSource(f.next).As4()
		f.next++
		copy(frame[14+12:], a[:])
		clear(frame[14+10 : 14+12])
		binary.BigEndian.PutUint16(frame[14+10:], checksum(frame[14:34]))
	}
	for sent < floodBurst {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&f.message[sent])), floodBurst-uintptr(sent), 0, 0, 0)
		if errno == unix.ENOBUFS || errno == unix.EAGAIN {
			return sent, nil // less was offered
		}
		if errno != 0 {
			return sent, errno
		}
		sent += uint64(n)
	}
	return sent, nil
}

// The verdicts of XDP.
const (
	xdpDrop = 1
	xdpPass = 2
)

// floodFrame is a SYN to the mail port, from nobody yet, with room for what
// Ethernet asks for.
func floodFrame(to netip.Addr) []byte {
	f := make([]byte, 60)
	copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	ip, tcp := f[14:34], f[34:]
	copy(ip, []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP})
	dst := to.As4()
	copy(ip[16:], dst[:])
	tcp[0], tcp[3], tcp[12], tcp[13] = 0xc0, 25, 0x50, 2
	return f
}

// counter is a map with one number.
func counter(b *testing.B) *ebpf.Map {
	b.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

// bareDrop drops what comes from the sources of the flood, counts it, and passes
// all else: the least that a program in our place can do.
type bareDrop struct {
	dropped *ebpf.Map
	prog    *ebpf.Program
}

func newBareDrop(b *testing.B) *bareDrop {
	b.Helper()
	d := &bareDrop{dropped: counter(b)}
	first, mask := floodBlock.Addr().As4(), net.CIDRMask(floodBlock.Bits(), 32)
	ins := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 34), asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half), asm.JNE.Imm(asm.R5, int32(binary.NativeEndian.Uint16([]byte{8, 0})), "pass"), // IPv4
		asm.LoadMem(asm.R5, asm.R2, 26, asm.Word), asm.And.Imm32(asm.R5, int32(binary.NativeEndian.Uint32(mask))),
		asm.JNE.Imm32(asm.R5, int32(binary.NativeEndian.Uint32(first[:])), "pass"),
	}
	ins = append(ins,
		asm.StoreImm(asm.RFP, -4, 0, asm.Word), asm.LoadMapPtr(asm.R1, d.dropped.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "pass"), asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, xdpDrop), asm.Return(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"), asm.Return(),
	)
	var err error
	if d.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "MIT", Flags: unix.BPF_F_XDP_HAS_FRAGS, Instructions: ins}); err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { d.prog.Close() })
	return d
}

func (d *bareDrop) count(b *testing.B) (n uint64) {
	b.Helper()
	if err := d.dropped.Lookup(uint32(0), &n); err != nil {
		b.Fatal(err)
	}
	return n
}

// attach puts it natively on a host's card.
func (d *bareDrop) attach(b *testing.B, h *lab.Host) (detach func()) {
	b.Helper()
	var l link.Link
	err := h.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			l, err = link.AttachXDP(link.XDPOptions{Program: d.prog, Interface: i.Index, Flags: link.XDPDriverMode})
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
