package xdp

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// xdpFilter measures the program of xdp-filter (xdp-tools) that passes all but
// the addresses that it is told of, whatever the port; it counts each. It is
// Debian's own object. The map that it comes with holds 10,000 addresses, which
// xdp-filter(8) cannot change: it is made larger here, where n is more.
func xdpFilter(b *testing.B, empty *ebpf.Program, n int) {
	const (
		object  = "xdpfilt_alw_ip"
		denied  = "filter_ipv4"
		sources = 1 // of the flags in a value: the address is one of a source
	)
	dir, err := lab.Unpacked(b.Context(), "xdp-tools")
	if err != nil {
		b.Skipf("xdp-filter is not there: %v", err)
	}
	found, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*/bpf", object+".o"))
	if len(found) != 1 {
		b.Skipf("xdp-tools of this release has no %s.o", object)
	}
	spec, err := ebpf.LoadCollectionSpec(found[0])
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	if m := spec.Maps[denied]; m.MaxEntries < uint32(n) {
		b.Logf("xdp-filter as it comes holds %d addresses, here %d", m.MaxEntries, n)
		m.MaxEntries = uint32(n)
	}
	spec.Programs[object].Flags |= unix.BPF_F_XDP_HAS_FRAGS // as the walker, which goes on with it
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	each := make([]uint64, ebpf.MustPossibleCPU())
	for i := range each {
		each[i] = sources
	}
	for i := range uint32(n) {
		a := source4(i).As4()
		if err := c.Maps[denied].Put(binary.NativeEndian.Uint32(a[:]), each); err != nil {
			b.Fatal(err)
		}
	}
	prog := c.Programs[object]
	for a, want := range map[uint32]uint32{0: xdpDrop, uint32(n): xdpPass} {
		if v, err := prog.Run(&ebpf.RunOptions{Data: synFrame(source4(a), 25)}); err != nil || v != want {
			b.Fatalf("xdp-filter says %d of source %d, not %d: %v", v, a, want, err)
		}
	}
	measure(b, prog, empty, "clean", draw{4, uint32(n), 1 << 31})
	measure(b, prog, empty, "banned", draw{4, 0, uint32(n)})
}
