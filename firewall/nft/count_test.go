package nft

import (
	"testing"
	"time"
)

// A long list, of which the kernel does not say how long it is, is read again
// rarely: in between, what we write is counted.
func TestLongListsAreCounted(t *testing.T) {
	var c counts
	n, now := c.of(always[0]), time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	holds := func(what string, want bool, bans int) {
		t.Helper()
		if many := n.many(now); many != want || n.bans != bans {
			t.Errorf("%s: many %v, %d bans; want %v, %d", what, many, n.bans, want, bans)
		}
	}
	holds("a set that nobody has read", false, 0)
	n.wrote(now, false, quickRead+1)
	holds("changes of what was not read", false, quickRead+1)
	n.wrote(now, true, 2*quickRead)
	holds("written anew", true, 2*quickRead)
	n.wrote(now, false, -1)
	holds("a ban less", true, 2*quickRead-1)
	now = now.Add(2 * time.Minute)
	holds("later, when bans may have ended", false, 2*quickRead-1)
	began := now
	now = now.Add(5 * time.Second)
	n.was(2*quickRead-10, n.writes, began, now)
	now = now.Add(4 * time.Minute)
	holds("read in five seconds, four minutes ago", true, 2*quickRead-10)
	writes := n.writes
	n.wrote(now, false, 3)
	n.was(7, writes, now, now)
	holds("read while bans were written", true, 2*quickRead-7)
	n.wrote(now, true, 5)
	holds("few", false, 5)
}
