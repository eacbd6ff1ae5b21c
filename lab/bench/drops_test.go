package bench

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// firstDrops is when the packet program dropped the first packet of each source
// that is banned, by CLOCK_MONOTONIC, as far as it dropped any. weir bans tells it
// by the wall clock. 0 is not known: the program keeps 65,536 of these stamps by
// the hash of a ban, so that of 180 bans one in four times one lost its own to another.
func (s *site) firstDrops(b *testing.B) map[netip.Addr]time.Duration {
	b.Helper()
	type ban struct {
		Prefix netip.Prefix `json:"prefix"`
		Hits   []struct {
			Engine  string    `json:"engine"`
			Packets uint64    `json:"packets"`
			First   time.Time `json:"first"`
		} `json:"hits"`
	}
	bans, err := lab.Objects[ban](patient(b), s.weir, "bans")
	if err != nil {
		b.Fatal(err)
	}
	wall, mono := time.Now(), monotonic()
	drops := map[netip.Addr]time.Duration{}
	for _, ban := range bans {
		for _, h := range ban.Hits {
			switch {
			case h.Engine != "xdp" || h.Packets == 0:
			case h.First.IsZero():
				drops[ban.Prefix.Addr()] = 0
			default:
				drops[ban.Prefix.Addr()] = mono - wall.Sub(h.First)
			}
		}
	}
	return drops
}

// monotonic is what the kernel's clock of that name says.
func monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // this clock is always there
	return time.Duration(t.Nano())
}
