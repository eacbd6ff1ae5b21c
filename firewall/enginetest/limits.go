package enginetest

import (
	"context"
	"net/netip"
	"time"
)

// try connects once, without the kernel's repetition, and says whether it got
// through.
func (b *bench) try(src string) bool {
	ctx, cancel := context.WithTimeout(b.t.Context(), 200*time.Millisecond)
	defer cancel()
	return b.connect(ctx, netip.MustParseAddr(src), Mail) == nil
}

// refused fails unless a connection of src is dropped under a reason.
func (b *bench) refused(src, reason string) {
	b.t.Helper()
	before := b.status().Counters[reason]
	b.Silent(src, Mail, func() bool { return b.status().Counters[reason] > before })
}

// A source may open so many connections in a minute, and no more. Others pay
// nothing for it, allow wins, and nobody is banned: a SYN proves no address.
func testSYNLimit(b *bench) {
	const limit = 10
	b.rules.SYNPerMinute = limit
	b.rules.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")}
	b.configure()
	for _, src := range []string{"192.0.2.7", "2001:db8::7"} {
		begun, through := time.Now(), 0
		for b.try(src) {
			if through++; through > 100 {
				b.t.Fatalf("%s: nothing ends at %d connections", src, through)
			}
		}
		if most := limit + 1 + int(time.Since(begun)/(time.Minute/limit)); through < limit || through > most {
			b.t.Errorf("%s: %d connections got through in %s, want %d to %d", src, through, time.Since(begun), limit, most)
		}
	}
	b.refused("2001:db8::8", "syn_limit") // the /64 is one source
	b.Connects("192.0.2.8", Mail)
	b.Connects("2001:db8:0:1::7", Mail)
	b.Connects("192.0.2.7", Other)
	for range 2 * limit {
		b.Connects("192.0.2.9", Mail)
	}
	if n := b.status().Bans; n != 0 {
		b.t.Errorf("%d bans", n)
	}
	b.rules.Observe = true
	b.configure()
	before := b.status().Counters["observed"]
	for range 2 * limit {
		b.Connects("192.0.2.7", Mail)
	}
	if b.status().Counters["observed"] == before {
		b.t.Error("nothing was counted as observed")
	}
	b.rules.Observe, b.rules.SYNPerMinute = false, 0
	b.configure()
	for range 2 * limit {
		b.Connects("192.0.2.7", Mail)
	}
}

// R-CX-01, R-BX-16: a banned source is let in so many times an hour, for the
// whole of each connection, and else hears nothing.
func testExplain(b *bench) {
	const lane = 2
	b.ban(time.Hour, "192.0.2.0/24", "2001:db8::/64")
	b.refused("192.0.2.7", "banned")
	b.rules.ExplainPerHour = lane
	b.configure()
	for _, src := range []string{"192.0.2.7", "192.0.2.8", "2001:db8::7"} {
		for range lane {
			b.Connects(src, Mail)
		}
		b.refused(src, "banned")
	}
	b.refused("2001:db8::8", "banned") // the /64 is one source
	if b.status().Counters["explained"] == 0 {
		b.t.Error("nothing was counted as explained")
	}
	b.rules.ExplainPerHour = 0
	b.configure()
	b.refused("192.0.2.9", "banned")
}
