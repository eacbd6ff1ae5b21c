package xdp

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"mailweir/bpf"
	"mailweir/firewall"
	"mailweir/firewall/enginetest"
)

func TestKernelTooOld(t *testing.T) {
	for version, ok := range map[uint32]bool{5<<16 | 15<<8: false, 6<<16 | 0<<8 | 255: false, 6<<16 | 1<<8: true, 7 << 16: true} {
		err := checkKernel(version)
		if (err == nil) != ok {
			t.Errorf("%#x: %v", version, err)
		}
		if err != nil && !strings.Contains(err.Error(), "6.1") {
			t.Errorf("%q does not say what is needed", err)
		}
	}
}

func TestNoCapabilities(t *testing.T) {
	w := enginetest.NewWorld(t)
	dir := enginetest.PinDir(t)
	for _, c := range []struct {
		have []int
		lack string
	}{
		{nil, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"},
		{[]int{unix.CAP_BPF, unix.CAP_PERFMON}, "CAP_NET_ADMIN"},
		{[]int{unix.CAP_SYS_ADMIN}, "CAP_NET_ADMIN"},
		{[]int{unix.CAP_BPF, unix.CAP_NET_ADMIN}, "CAP_PERFMON"},
	} {
		err := w.InsideWith(c.have, func() error { _, err := Open(Options{PinDir: dir}); return err })
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "lacks "+c.lack+" ") {
			t.Errorf("with %v: %v", c.have, err)
		}
	}
}

// The capabilities that guard keeps are enough for all it does.
func TestLeastCapabilities(t *testing.T) {
	w := enginetest.NewWorld(t)
	dir := enginetest.PinDir(t)
	rules := firewall.Rules{Interfaces: []string{enginetest.Interface}, Ports: []uint16{enginetest.Mail}}
	ban := enginetest.Bans(time.Hour, "192.0.2.7/32", "10.0.0.0/8")
	var table *Table
	err := w.InsideWith([]int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, func() (err error) {
		ctx := context.Background()
		for range 2 { // the second adopts what the first has left
			if table, err = Open(Options{PinDir: dir}); err != nil {
				return err
			}
			err = errors.Join(table.Configure(ctx, rules), table.Apply(ctx, ban, nil), table.Intact(ctx))
			if err != nil {
				return err
			}
		}
		_, err = table.Status(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Drops(table, "192.0.2.7", "192.0.2.7/32")
	err = w.InsideWith([]int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, func() error { return table.Remove(context.Background()) })
	if err != nil {
		t.Fatal(err)
	}
	w.Connects("192.0.2.7", enginetest.Mail)
}

func TestPinDirHasToBeInBPFFS(t *testing.T) {
	err := preparePinDir(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), bpffs) {
		t.Errorf("a directory on disk: %v", err)
	}
	if !onBPFFS(bpffs + "/not/there/yet") {
		t.Skip("needs the BPF file system on " + bpffs)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Mode: "offload"}, {MaxBans: -1}, {MaxBans: math.MaxInt32 + 1}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v: taken", o)
		}
	}
}

func TestMomentConverts(t *testing.T) {
	wall := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	m := moment{wall: wall, kernel: uint64(10 * time.Second)}
	for _, c := range []struct {
		at   time.Time
		want uint64
	}{
		{wall, uint64(10 * time.Second)},
		{wall.Add(3 * time.Second), uint64(13 * time.Second)},
		{wall.Add(-3 * time.Second), uint64(7 * time.Second)},
		{wall.Add(-time.Hour), 0},
		{time.Time{}, 0},
		{wall.AddDate(900, 0, 0), uint64(10*time.Second) + math.MaxInt64},
	} {
		if got := m.toKernel(c.at); got != c.want {
			t.Errorf("%s is %d, not %d", c.at, got, c.want)
		}
	}
	if got := m.toWall(uint64(7 * time.Second)); !got.Equal(wall.Add(-3 * time.Second)) {
		t.Errorf("7 s is %s", got)
	}
}

// What is read back from a map is the prefix that was written.
func TestKeysAreReversible(t *testing.T) {
	for _, s := range []string{"192.0.2.7/32", "10.0.0.0/8", "0.0.0.0/0", "255.255.255.255/32"} {
		p := netip.MustParsePrefix(s)
		if got := prefix4Prefix(prefix4Key(p)); got != p {
			t.Errorf("%s is read back as %s", p, got)
		}
	}
	for _, s := range []string{"2001:db8::1/128", "2001:db8:0:1::/64", "2001:db8::/48", "::/0", "ffff:ffff::/33"} {
		p := netip.MustParsePrefix(s)
		if got := prefix6Prefix(prefix6Key(p)); got != p {
			t.Errorf("%s is read back as %s", p, got)
		}
	}
}

// A program that does the wrong thing does not get past the self-test.
func TestSelfTestFindsFaults(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads programs into the kernel")
	}
	table := &Table{opt: Options{}.withDefaults()}
	spec, err := table.spec()
	if err != nil {
		t.Fatal(err)
	}
	if err := selfTest(spec); err != nil {
		t.Fatalf("the right program: %v", err)
	}
	broken := spec.Copy()
	broken.Programs[bpf.FilterProgMailweir].Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}
	if err := selfTest(broken); err == nil || !strings.Contains(err.Error(), "ends as 2, not 1") {
		t.Errorf("a program that passes everything: %v", err)
	}
}
