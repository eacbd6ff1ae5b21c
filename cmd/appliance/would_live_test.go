package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
	"mailweir/record"
)

// Observe (smtp-filter.md section 4, safety 3): nobody is banned, and the report
// says who would have been, by what, and that somebody good is among them.
func TestObserveTellsWhoWouldBeBanned(t *testing.T) {
	b := newKeyBench(t)
	b.apply(map[string]string{"observe": "true"})
	if out := b.cmd("bans", "--would"); out != "nobody would have been banned\n" {
		t.Errorf("before anything happened: %s", out)
	}
	guesser, mixed, allowed := b.source(), b.source(), b.source()
	b.cmd("allow", allowed.String(), "--why", "ours")
	for _, from := range []netip.Addr{guesser, mixed, allowed} {
		if n := b.guesses(from); n != mostGuesses {
			t.Errorf("%v: %d guesses answered, want all", from, n)
		}
	}
	b.spam(mixed, b.rcpt()) // a real mail, which a ban would have kept out
	var list []record.WouldBan
	b.Eventually(10*time.Second, "the convictions are on record", func() (done bool) {
		var err error
		list, err = lab.Objects[record.WouldBan](t.Context(), b.weir, "bans", "--would", "--json")
		return err == nil && len(list) == 2
	})
	found := map[netip.Addr]record.WouldBan{}
	for _, w := range list {
		found[w.Peer] = w
	}
	if w := found[guesser]; w.Rule != "unknown_per_hour" || w.KnownGood || w.Unknown != 25 || len(w.Guesses) == 0 {
		t.Errorf("the guesser is listed as %+v", w)
	}
	if w, ok := found[allowed]; ok {
		t.Errorf("an allowed source is listed: %+v", w)
	}
	out := b.cmd("bans", "--would")
	if !strings.Contains(out, guesser.String()) || !strings.Contains(out, "would have been banned") {
		t.Errorf("weir bans --would says\n%s", out)
	}
	if w := found[mixed]; !w.KnownGood || w.Accepted != 1 || !strings.Contains(out, "KNOWN TO BE GOOD") {
		t.Errorf("who sent real mail is listed as %+v in\n%s", w, out)
	}
	if out := b.cmd("bans"); !strings.Contains(out, "nobody is banned") {
		t.Errorf("bans: %s", out)
	}
}
