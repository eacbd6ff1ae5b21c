package smtp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// What is done under load is named: at half, when the places for strangers run
// short, and when there are none; what is known to be good still comes in.
func TestLoadIsNamed(t *testing.T) {
	l, p := newLimits(), Policy{MaxConnections: 100, PerSource: PerSource{Open: 1000, NewPerMinute: 1000}}.withDefaults()
	for open := 0; open <= 90; open++ {
		want := Load("")
		switch {
		case open >= 90:
			want = Full
		case open >= 81:
			want = Crowded
		case open > 50:
			want = HalfFull
		}
		if got := l.load(&p); got != want {
			t.Errorf("%d of 100 are open: %q, want %q", open, got, want)
		}
		if open < 90 {
			l.admit(time.Unix(0, 0), netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", open)), New, &p)
		}
	}
	if _, refused := l.admit(time.Unix(0, 0), netip.MustParseAddr("198.51.100.1"), New, &p); refused == "" {
		t.Error("a stranger comes in though it is full")
	}
	if _, refused := l.admit(time.Unix(0, 0), netip.MustParseAddr("198.51.100.2"), Known, &p); refused != "" {
		t.Errorf("who is known is refused for %s", refused)
	}
}
