package greylist

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// R-CX-02: a botnet of a hundred thousand triples, from as many networks, whose
// hosts come again as mail servers do and so pass, pushes nobody out who passed
// before or who waits, and takes no more memory than what a triple is kept in.
func TestBotnetPushesNobodyOut(t *testing.T) {
	const bots, good = 100_000, 1_000
	bot := func(i int) Contact {
		return Contact{Pool: fmt.Sprintf("addr:%d.%d.%d.0/24", i>>16, i>>8&255, i&255), HELO: fmt.Sprintf("h%d.example", i), Sender: fmt.Sprintf("n%dx@bot%d.example", i, i), Recipient: "anna@example.com"}
	}
	sender := func(i int) Contact {
		return Contact{Pool: "spf:good.example", Sender: fmt.Sprintf("p%dx@good.example", i), Recipient: "anna@example.com"}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	store := NewLocal(0)
	l := New(store, [16]byte{1})
	for i := range good {
		meet(t, l, start, sender(i))
	}
	for i := range good / 2 {
		meet(t, l, start.Add(time.Hour), sender(i))
	}
	begun := start.Add(2 * time.Hour)
	for i := range bots {
		meet(t, l, begun, bot(i))
	}
	for i := range bots {
		if a := meet(t, l, begun.Add(15*time.Minute), bot(i)); a.State != Passed {
			t.Fatalf("bot %d comes again as a mail server does: %s", i, a.State)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for i := range good {
		if a := meet(t, l, begun.Add(time.Hour), sender(i)); a.State != Passed {
			t.Fatalf("sender %d of %d: %s", i, good, a.State)
		}
	}
	waiting, passed := store.Len()
	grown := int(after.HeapAlloc) - int(before.HeapAlloc)
	t.Logf("%d wait, %d passed, %.1f MB, %d bytes for each", waiting, passed, float64(grown)/(1<<20), grown/(waiting+passed))
	if waiting != 0 || passed != 2*bots+good {
		t.Errorf("%d wait, %d passed", waiting, passed)
	}
	if grown/(waiting+passed) > 200 {
		t.Errorf("%d bytes for each key", grown/(waiting+passed))
	}
	runtime.KeepAlive(store)
}

// A botnet of more triples than there is room for stays within the bounds, and
// those who passed before are there still.
func TestBotnetBeyondAllBounds(t *testing.T) {
	const limit = 1 << 14
	store := NewLocal(limit)
	l := New(store, [16]byte{1})
	meet(t, l, start, anna)
	meet(t, l, start.Add(time.Hour), anna)
	for i := range 100_000 {
		meet(t, l, start.Add(2*time.Hour+time.Duration(i)*time.Millisecond), Contact{Pool: fmt.Sprintf("addr:%d", i), Sender: "x@y", Recipient: "z@example.com"})
	}
	if waiting, _ := store.Len(); waiting > limit {
		t.Errorf("%d wait, with room for %d", waiting, limit)
	}
	if a := meet(t, l, start.Add(3*time.Hour), anna); a.State != Passed {
		t.Errorf("pushed out: %s", a.State)
	}
}
