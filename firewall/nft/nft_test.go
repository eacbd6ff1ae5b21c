package nft_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/firewall/enginetest"
	"mailweir/firewall/nft"
	"mailweir/geo"
)

var (
	ctx   = context.Background()
	rules = firewall.Rules{Ports: []uint16{enginetest.Mail}}
)

func open(t testing.TB, w *enginetest.World, opt nft.Options) (table *nft.Table) {
	t.Helper()
	do(t, w, "open", func() (err error) {
		if table, err = nft.Open(opt); err != nil {
			return err
		}
		return table.Configure(ctx, rules)
	})
	t.Cleanup(func() { table.Close() })
	return table
}

func do(t testing.TB, w *enginetest.World, what string, f func() error) {
	t.Helper()
	if err := w.Inside(f); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// run runs nft with a line of its language.
func run(t testing.TB, w *enginetest.World, line string) (out string) {
	t.Helper()
	do(t, w, "nft "+line, func() error {
		b, err := exec.Command("nft", line).CombinedOutput()
		out = string(b)
		if err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
		return nil
	})
	return out
}

func TestNoCapability(t *testing.T) {
	w := enginetest.NewWorld(t)
	err := w.InsideWith(nil, func() error { _, err := nft.Open(nft.Options{}); return err })
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("open: %v", err)
	}
	err = w.InsideWith([]int{unix.CAP_NET_ADMIN}, func() error {
		table, err := nft.Open(nft.Options{})
		if err != nil {
			return err
		}
		return errors.Join(
			table.Configure(ctx, rules),
			table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32", "2001:db8::/64"), nil),
			table.Intact(ctx), table.Remove(ctx))
	})
	if err != nil {
		t.Errorf("with CAP_NET_ADMIN alone: %v", err)
	}
}

// Whatever a stranger does to the table is noticed; what he does to his own is
// not our business.
func TestIntactNotices(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"flush ruleset", "gone"},
		{"delete table inet mailweir", "gone"},
		{"flush set inet mailweir ban4", "emptied set ban4"},
		{"flush set inet mailweir ban6_64", "emptied set ban6_64"},
		{"flush chain inet mailweir protected", "chain protected"},
		{"insert rule inet mailweir prerouting accept", "chain prerouting"},
		{"add rule inet mailweir strike accept", "chain strike"},
		{"add table ip theirs", ""},
		{"add element inet mailweir ban4 { 192.0.2.99 timeout 5s }", ""},
	} {
		w := enginetest.NewWorld(t)
		table := open(t, w, nft.Options{})
		bans := enginetest.Bans(time.Hour, "192.0.2.7/32", "2001:db8::/64")
		do(t, w, "ban", func() error { return table.Apply(ctx, bans, nil) })
		do(t, w, "intact", func() error { return table.Intact(ctx) })
		run(t, w, c.line)
		err := w.Inside(func() error { return table.Intact(ctx) })
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.line, err)
		}
		do(t, w, "mend", func() error {
			return errors.Join(table.Configure(ctx, rules), table.Replace(ctx, slices.Values(bans)), table.Intact(ctx))
		})
		w.Drops(table, "192.0.2.7", "192.0.2.7/32")
		w.Drops(table, "2001:db8::7", "2001:db8::/64")
	}
}

// A ban that ends or is lifted is no damage.
func TestIntactAfterLift(t *testing.T) {
	w := enginetest.NewWorld(t)
	table := open(t, w, nft.Options{})
	long, short := enginetest.Bans(2*time.Hour, "192.0.2.7/32"), enginetest.Bans(time.Hour, "192.0.2.8/32")
	do(t, w, "ban", func() error { return table.Apply(ctx, append(long, short...), nil) })
	do(t, w, "lift", func() error { return table.Apply(ctx, nil, long) })
	run(t, w, "add table ip theirs")
	do(t, w, "intact", func() error { return table.Intact(ctx) })
}

func TestGenerationRises(t *testing.T) {
	w := enginetest.NewWorld(t)
	var before, after uint32
	do(t, w, "generation", func() (err error) { before, err = nft.Generation(ctx); return err })
	run(t, w, "add table ip theirs")
	do(t, w, "generation", func() (err error) { after, err = nft.Generation(ctx); return err })
	if after <= before {
		t.Errorf("generation was %d and is %d", before, after)
	}
}

// TestHundredThousand: one change larger than a netlink message, than the
// buffers of a socket by default, and back out of it; nft reads the same.
func TestHundredThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred thousand bans in one goroutine: -short (make race) leaves that to make test")
	}
	w := enginetest.NewWorld(t)
	table := open(t, w, nft.Options{})
	const n = 100_000
	list := many(n)
	do(t, w, "replace", func() error { return table.Replace(ctx, slices.Values(list)) })
	bans := func() (n int) {
		do(t, w, "status", func() error { s, err := table.Status(ctx); n = s.Bans; return err })
		return n
	}
	if got := bans(); got != n {
		t.Fatalf("%d bans of %d", got, n)
	}
	if got := strings.Count(run(t, w, "list set inet mailweir ban4"), "expires"); got != n/2 {
		t.Errorf("nft reads %d bans of %d", got, n/2)
	}
	w.Drops(table, list[0].Prefix.Addr().String(), list[0].Prefix.String())
	do(t, w, "renew all", func() error { return table.Apply(ctx, many(n), nil) })
	do(t, w, "replace all", func() error { return table.Replace(ctx, slices.Values(list)) })
	if got := bans(); got != n {
		t.Errorf("%d bans after Replace with the same %d", got, n)
	}
	do(t, w, "intact", func() error { return table.Intact(ctx) })
	do(t, w, "lift most", func() error { return table.Apply(ctx, nil, list[10:]) })
	if got := bans(); got != 10 {
		t.Errorf("%d bans after all but 10 were lifted", got)
	}
	w.Drops(table, list[0].Prefix.Addr().String(), list[0].Prefix.String())
}

// many are bans, half of IPv4 addresses and half of IPv6 /64.
func many(n int) []firewall.Ban {
	list := make([]firewall.Ban, n)
	until := time.Now().Add(time.Hour)
	for i := range list {
		if i%2 == 0 {
			a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(i))))
			list[i] = firewall.Ban{Prefix: netip.PrefixFrom(a, 32), Until: until}
			continue
		}
		b := netip.MustParseAddr("2001:db8::").As16()
		binary.BigEndian.PutUint32(b[4:], uint32(i))
		list[i] = firewall.Ban{Prefix: netip.PrefixFrom(netip.AddrFrom16(b), 64+64*(i%4/3)), Until: until}
	}
	return list
}

// TestManyDescriptors: google/nftables with a descriptor beyond 1023.
func TestManyDescriptors(t *testing.T) {
	w := enginetest.NewWorld(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 1200 {
		t.Skipf("needs 1200 descriptors, has %d (%v)", limit.Cur, err)
	}
	for range 1100 {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	table := open(t, w, nft.Options{})
	do(t, w, "ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "192.0.2.7/32"), nil) })
	do(t, w, "intact", func() error { return table.Intact(ctx) })
	w.Drops(table, "192.0.2.7", "192.0.2.7/32")
}

// TestManyAllowEntries: more than a message holds, nested and side by side.
func TestManyAllowEntries(t *testing.T) {
	w := enginetest.NewWorld(t)
	table := open(t, w, nft.Options{})
	r := rules
	for i := range 5000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		r.Allow = append(r.Allow, netip.PrefixFrom(a, 24+i%9), netip.PrefixFrom(a, 30))
	}
	do(t, w, "ban", func() error { return table.Apply(ctx, enginetest.Bans(time.Hour, "10.0.0.0/8"), nil) })
	for range 2 {
		do(t, w, "configure", func() error { return table.Configure(ctx, r) })
	}
	w.Connects("10.0.9.9", enginetest.Mail)
	w.Drops(table, "10.0.8.4", "10.0.0.0/8") // its allow entries are /32 and /30
}

// What nft prints is what the manual says the table looks like.
func TestRuleset(t *testing.T) {
	w := enginetest.NewWorld(t)
	table := open(t, w, nft.Options{})
	do(t, w, "ban", func() error {
		return table.Apply(ctx, enginetest.Bans(time.Hour, "10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/64", "2001:db8::/48"), nil)
	})
	out := run(t, w, "list table inet mailweir")
	at := 0
	for _, line := range []string{
		"type filter hook prerouting priority raw; policy accept;",
		"meta l4proto != tcp accept", "th dport @ports goto protected",
		"ip saddr @allow4 counter name \"allowed\" accept",
		"ip saddr @ban4 goto strike", "ip saddr & 255.255.0.0 == @ban4_16 goto strike", "ip saddr & 255.0.0.0 == @ban4_8 goto strike",
		"ip6 saddr @ban6 goto strike", "@ban6_64 goto strike", "@ban6_48 goto strike",
		"counter name \"banned\" drop",
	} {
		i := strings.Index(out[at:], line)
		if i < 0 {
			t.Fatalf("%q is missing, or not in its place:\n%s", line, out)
		}
		at += i
	}
}

// endsAt is a context that ends at the nth look at it.
type endsAt struct {
	context.Context
	n int
}

func (c *endsAt) Err() error {
	if c.n--; c.n <= 0 {
		return context.Canceled
	}
	return nil
}

// What a change that broke off has left of its countries denies nobody later.
func TestHalfWrittenCountries(t *testing.T) {
	w := enginetest.NewWorld(t)
	table := open(t, w, nft.Options{})
	world := enginetest.Worlds(t)[0]
	deny := func(ctx context.Context, rule string) error {
		r, err := geo.ParseRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		next := rules
		next.World, next.Deny = world, []geo.Rule{r}
		return w.Inside(func() error { return table.Configure(ctx, next) })
	}
	// The set of IPv4 is written, that of IPv6 is not.
	if err := deny(&endsAt{ctx, 3}, "DE"); !errors.Is(err, context.Canceled) {
		t.Fatalf("a change that breaks off: %v", err)
	}
	if list := run(t, w, "list ruleset"); !strings.Contains(list, "198.51.100.0/24") {
		t.Fatalf("nothing was left half-written, so that this tests nothing:\n%s", list)
	}
	if err := deny(ctx, "FR"); err != nil {
		t.Fatal(err)
	}
	if list := run(t, w, "list ruleset"); strings.Contains(list, "198.51.100.0/24") {
		t.Errorf("DE is denied though FR is:\n%s", list)
	}
	w.Connects("198.51.100.7", enginetest.Mail)
}
