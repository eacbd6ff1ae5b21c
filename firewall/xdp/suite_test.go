package xdp_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/xdp"
)

func engine(mode xdp.Mode) enginetest.Engine {
	return enginetest.Engine{
		Name: "xdp-" + string(mode),
		Open: func(dir string, maxBans int) (firewall.Enforcer, error) {
			return xdp.Open(xdp.Options{PinDir: dir, Mode: mode, MaxBans: maxBans})
		},
		Remove: func(dir string) error { return xdp.Remove(context.Background(), dir) },
		Alone:  noTables,
		Damage: detach,
	}
}

var native, generic = engine(xdp.Native), engine(xdp.Generic)

func TestMain(m *testing.M) { enginetest.Main(m, native, generic) }

func TestNativeSuite(t *testing.T) { enginetest.Run(t, native) }

func TestGenericSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("another flag for the kernel, the same Go as native: -short (make race) leaves that to make test")
	}
	enginetest.Run(t, generic)
}

// noTables says that no nftables table is in the namespace.
func noTables() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	list, err := c.ListTables()
	if err == nil && len(list) > 0 {
		return fmt.Errorf("nftables table %s is there", list[0].Name)
	}
	return err
}

// detach detaches the program, as bpftool does.
func detach(string) error {
	l, err := netlink.LinkByName(enginetest.Interface)
	if err != nil {
		return err
	}
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err == nil && info.Type == link.XDPType && uint32(info.Program) == l.Attrs().Xdp.ProgId {
			return it.Link.Detach()
		}
	}
	return errors.Join(errors.New("no link on the interface"), it.Err())
}
