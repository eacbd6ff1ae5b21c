package replay_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mailweir/record"
)

// Of many who name the same local parts in one millisecond the first to be found
// out is who came fifth: the order of the lines says who, not their refs.
func TestOrderWithinAMillisecond(t *testing.T) {
	for _, reversed := range []bool{false, true} {
		s := newStage(1)
		const bots = 8
		for part := range 4 {
			s.now = s.now.Add(time.Second)
			for i := range bots {
				a := netip.AddrFrom4([4]byte{203, byte(i), 113, 9})
				s.send(a, "u@bot.example", bad(fmt.Sprintf("name%d@example.com", part))...)
				l := &s.lines[len(s.lines)-1]
				place := i
				if reversed {
					place = bots - i
				}
				begin, named, end := record.Micros(i), record.Micros(20_100+place), record.Micros(20_200)
				l.Order, l.Rcpts[0].Order = &record.Order{Begin: &begin, End: &end}, &named
			}
		}
		says, _ := play(t, s.lines, s.truth, nil)
		first := firstBan(says)
		want := netip.AddrFrom4([4]byte{203, 4, 113, 9}) // the fifth makes that a name goes round
		if reversed {
			want = netip.AddrFrom4([4]byte{203, bots - 5, 113, 9})
		}
		if first == nil || first.Evidence.Peer != want {
			t.Errorf("reversed %v: the first ban is %+v, want that of %v", reversed, first, want)
		}
	}
}
