package enginetest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"mailweir/firewall"
)

// A process is killed in the middle of taking over and of filling anew, so many
// times, at moments spread over its work. Where the kernel takes long to verify the
// program, a few have to do.
const (
	swapKills   = 16
	fewKills    = 4
	swapPatient = 10 * time.Second
)

// swapOn takes the engine over and fills it anew, again and again, until it is
// killed: opened by a new program, with other rules, other bans and a table of
// another size each time. The bans of the order stand all the while.
func (o order) swapOn(e Engine) error {
	ctx := context.Background()
	for round := 0; ; round++ {
		table, err := e.Open(o.Dir, 0)
		if err != nil {
			return err
		}
		rules := o.Rules
		rules.Allow = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(round), 0}), 24)}
		if err := table.Configure(ctx, rules); err != nil {
			return err
		}
		list := slices.Clone(o.Bans)
		for i := range 1000 * (1 + round%3) {
			a := netip.AddrFrom4([4]byte{11, byte(round), byte(i >> 8), byte(i)})
			list = append(list, firewall.Ban{Prefix: netip.PrefixFrom(a, 32), Until: time.Now().Add(time.Hour)})
		}
		if err := table.Replace(ctx, slices.Values(list)); err != nil {
			return err
		}
		if err := table.Apply(ctx, list[len(o.Bans):], o.Bans[:0]); err != nil {
			return err
		}
		if err := table.Close(); err != nil {
			return err
		}
		if round == 0 {
			fmt.Println("holding")
		}
	}
}

// testKillSwapping: kill -9 at any step of an upgrade and of a swap lets no
// packet of a banned source through, keeps nobody else out, and leaves what the
// next process can take over.
func testKillSwapping(b *bench) {
	list := bans(time.Hour, "192.0.2.7/32", "203.0.113.0/24", "2001:db8::/64")
	b.replace(list)
	s := b.Send("192.0.2.7", Mail, Shape{})
	b.eventually("SYNs", func() bool { return s.Sent.Load() >= 10 })
	b.close()
	began := time.Now()
	h := b.swap(list)
	cycle := time.Since(began) // with the start of a process: more than one round
	kills := 0
	for ; kills < fewKills || kills < swapKills && time.Since(began) < swapPatient; kills++ {
		if kills > 0 {
			h = b.swap(list) // takes over what the killed one has left
		}
		time.Sleep(cycle * time.Duration(7*kills%swapKills) / swapKills) // where it is then, is what is tried
		h.kill()
		b.Connects("198.51.100.9", Mail)
	}
	b.open(0)
	b.configure()
	b.must("intact", b.intact())
	for _, p := range []string{"192.0.2.7/32", "203.0.113.0/24", "2001:db8::/64"} {
		if _, found := b.hits(p); !found {
			b.t.Errorf("the ban of %s was not taken over", p)
		}
	}
	b.replace(list)
	s.Stop(b.World)
	if n := s.Answered.Load(); n != 0 {
		b.t.Errorf("%d of %d SYNs were answered", n, s.Sent.Load())
	}
	b.t.Logf("%d kills within %v of work each, %d SYNs, none answered", kills, cycle, s.Sent.Load())
	b.dropped("2001:db8::7", "2001:db8::/64")
}
