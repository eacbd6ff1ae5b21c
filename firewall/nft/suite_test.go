package nft_test

import (
	"context"
	"fmt"
	"os/exec"
	"testing"

	"github.com/vishvananda/netlink"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/nft"
)

var engine = enginetest.Engine{
	Name: "nft",
	Open: func(_ string, maxBans int) (firewall.Enforcer, error) {
		return nft.Open(nft.Options{MaxBans: maxBans})
	},
	Remove: func(string) error { return nft.Remove(context.Background()) },
	Alone: func() error {
		list, err := netlink.LinkList()
		for _, l := range list {
			if x := l.Attrs().Xdp; x != nil && x.Attached {
				return fmt.Errorf("XDP program %d is on interface %s", x.ProgId, l.Attrs().Name)
			}
		}
		return err
	},
	Damage: func(string) error { return exec.Command("nft", "flush", "ruleset").Run() },
}

func TestMain(m *testing.M) { enginetest.Main(m, engine) }

func TestSuite(t *testing.T) { enginetest.Run(t, engine) }
