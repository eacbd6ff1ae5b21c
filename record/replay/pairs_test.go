package replay_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// pairs are drawn scenes with an innocent twin, written after the rules stood,
// by seeds that no other scene has.
var pairs = map[string]func(w *wild, attacker bool){
	"nights-or-cron":                 pairNights,
	"drip-of-a-64-or-retries":        pairDrip64,
	"roles-of-small-domains":         pairSmallDomains,
	"many-domains-or-former":         pairManyDomains,
	"bursts-or-slips":                pairBursts,
	"fresh-names-or-monitor":         pairMonitor,
	"bot-or-bot-behind-a-new-nat":    pairNewNAT,
	"snowshoe-or-pool-of-callouts":   pairCalloutPool,
	"null-guesser-or-wave":           pairWave,
	"relay-or-forwarder":             pairForwarder,
	"bought-list-or-newsletter":      pairNewsletter,
	"drip-of-a-48-or-hoster":         pairDrip48,
	"neighbour-in-a-bad-24":          pairNeighbour,
	"merger":                         pairMerger,
	"earned-trust-or-earned-trust":   pairEarned,
	"weekly-typos-or-weekly-guesses": pairWeekly,
	"asks-or-writes":                 pairAsks,
	"asks-many-or-writes":            pairAsksMany,
	"junk-or-letters":                pairJunk,
	"role-first-or-person-first":     pairFirst,
	"three-dates-or-three-days":      pairDates,
}

// TestPairs holds each of them against its truth, as attacker and as innocent.
func TestPairs(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic in one goroutine: -short (make race) leaves that to make test")
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		for _, attacker := range []bool{true, false} {
			for _, seed := range []uint64{90210, 31337} {
				t.Run(fmt.Sprintf("%s/%v/%d", name, attacker, seed), func(t *testing.T) {
					w := newWild(seed)
					pairs[name](w, attacker)
					w.meanwhile(w.end())
					lines := read(t, w.text(t, true))
					says, _ := play(t, lines, w.truth, nil)
					hold(t, lines, w.truth, says)
					w.spared(t, says)
				})
			}
		}
	}
}

// A dozen and a half recipients at three in the morning, every night: new ones,
// or those of a job that nobody looks after.
func pairNights(w *wild, attacker bool) {
	a := w.addr()
	list := w.guesses(18)
	for night := range 16 {
		w.now = w.begin.Truncate(24 * time.Hour).Add(time.Duration(night+1)*24*time.Hour + 3*time.Hour)
		if attacker {
			list = w.guesses(18)
		}
		w.name(always(a), "cron@host.example", habit{3, 2, false}, seconds(w.between(1, 60)), list)
	}
	w.verdict(attacker, a, 100)
}

// One recipient an hour from changing addresses of a /64, for nine days: new
// ones, or three that are tried again and again.
func pairDrip64(w *wild, attacker bool) {
	p := w.addr6(32, netip.MustParseAddr("2a03:db8::"))
	list := w.guesses(220)
	for i := range list {
		if !attacker {
			list[i] = list[i%3]
		}
	}
	w.name(func(int) netip.Addr { return w.addr6(64, p) }, "x@six.example", habit{1, 1, false}, time.Hour, list)
	w.verdict(attacker, p, 100)
}

// The usual role names at a dozen small domains, which have them or have not.
func pairSmallDomains(w *wild, attacker bool) {
	a := w.addr()
	var list []said
	for d := range 12 {
		for _, role := range []string{"info", "sales", "office", "mail", "contact", "hello"} {
			to := fmt.Sprintf("%s@small%d.example", role, d)
			if attacker {
				list = append(list, bad(to)...)
			} else {
				list = append(list, good(to)...)
			}
		}
	}
	w.name(always(a), "offer@shop.example", w.habit(), seconds(w.between(2, 40)), list)
	w.verdict(attacker, a, 25)
}

// Four recipients at each of twenty domains, one session a domain: never there,
// or there once.
func pairManyDomains(w *wild, attacker bool) {
	a := w.addr()
	var list []said
	for i := range 80 {
		to := fmt.Sprintf("j.doe%d@many%d.example", i, i/4)
		if !attacker {
			w.after(20 * time.Second)
			w.send(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%20)}), "p@partner.example", good(to)...)
		}
		list = append(list, bad(to)...)
	}
	w.now = w.now.Add(12 * 24 * time.Hour)
	w.begin = w.now
	w.name(always(a), "crm@firm.example", habit{4, 1, false}, seconds(w.between(5, 90)), list)
	w.verdict(attacker, a, 50)
}

// Eight recipients within a minute, then hours of silence, for days: nobody,
// or two slips among acquaintances.
func pairBursts(w *wild, attacker bool) {
	a := w.addr()
	for range 30 {
		list := w.guesses(8)
		if !attacker {
			list = append(list[:2], good(w.known(), w.known(), w.known(), w.known(), w.known(), w.known())...)
		}
		w.name(always(a), "u@firm.example", habit{4, 2, true}, seconds(7), list)
		w.now = w.now.Add(seconds(w.between(4*3600, 7*3600)))
	}
	w.verdict(attacker, a, 100)
}

// A recipient every ten minutes for four days: never the same, or a monitor's
// fifteen in turn.
func pairMonitor(w *wild, attacker bool) {
	a := w.addr()
	list := w.guesses(15)
	for i := range 4 * 24 * 6 {
		w.after(10 * time.Minute)
		r := list[i%15]
		if attacker {
			r = w.guesses(1)[0]
		}
		w.probe(a, "check@watch.example", r)
	}
	w.verdict(attacker, a, 50)
}

// 60 guesses in an hour from an address that is alone, or that of an office
// which began to write here the day before.
func pairNewNAT(w *wild, attacker bool) {
	a := w.addr4()
	if !attacker {
		for range 25 {
			w.after(40 * time.Minute)
			w.send(a, "u@firm.example", good(w.known())...)
		}
	}
	for i, g := range w.guesses(60) {
		w.after(time.Minute)
		w.probe(a, "x@bot.example", g)
		if i%4 == 0 && !attacker {
			w.send(a, "u@firm.example", good(w.known())...)
		}
	}
	w.verdict(attacker, a, 25)
}

// A dozen hosts of a /24 ask after 15 recipients an hour each, of which two in
// three are nobody's: with a sender, or as callouts.
func pairCalloutPool(w *wild, attacker bool) {
	b := w.addr4().As4()
	from := ""
	if attacker {
		from = "x@snow.example"
	}
	host := func(i int) netip.Addr { b[3] = byte(20 + i%12); return netip.AddrFrom4(b) }
	share := 0.66
	if attacker {
		share = 0.95
	}
	w.name(host, from, habit{1, 1, false}, 20*time.Second, w.mixed(900, share))
	for i := range 12 {
		w.verdict(attacker, host(i), 25)
	}
}

// 260 notifications an hour from one host to nobody, and a wave of forged mail
// meanwhile: of the same domain, or of another.
func pairWave(w *wild, attacker bool) {
	w.domains = []string{"forged.example", "calm.example"}
	at := "forged.example"
	if attacker {
		at = "calm.example"
	}
	big := w.addr()
	for i := range 1200 {
		w.after(seconds(6))
		a := netip.AddrFrom4([4]byte{byte(100 + i%17), 71, byte(i % 40), 25})
		w.probe(a, "", bad(fmt.Sprintf("forged%d@forged.example", w.rng.IntN(2000)))...)
		if w.never(a); i > 100 && i%2 == 0 {
			w.probe(big, "", bad(fmt.Sprintf("back%d@%s", i, at))...)
		}
	}
	w.verdict(attacker, big, 250)
}

// Passes on what comes to the forty addresses of a club: that never were here,
// or that were.
func pairForwarder(w *wild, attacker bool) {
	list := w.once(40)
	if attacker {
		w.lines = w.lines[:len(w.lines)-40]
	}
	w.now = w.now.Add(90 * 24 * time.Hour)
	w.begin = w.now
	a := w.addr()
	w.name(always(a), "anybody@anywhere.example", habit{1, 1, false}, seconds(w.between(3, 60)), list)
	w.verdict(attacker, a, 25)
}

// 1,500 readers within an hour or two: nine in ten exist, or one in ten.
func pairNewsletter(w *wild, attacker bool) {
	w.people = 2000
	share := 0.09
	if attacker {
		share = 0.9
	}
	a := w.addr()
	w.name(always(a), "news@letter.example", w.habit(), seconds(w.between(1, 5)), w.mixed(1500, share))
	w.verdict(attacker, a, 50)
}

// One recipient in some minutes from a new /64 of a /48 each time, for two
// days: guesses, or a hoster's customers of whom one in twelve errs.
func pairDrip48(w *wild, attacker bool) {
	p := w.addr6(32, netip.MustParseAddr("2a04:db8::"))
	share := 1.0 / 12
	if attacker {
		share = 1
	}
	h := habit{1, 1, true}
	var used []netip.Addr
	next := func(int) netip.Addr { a := w.addr6(48, p); used = append(used, a); return a }
	w.name(next, "x@six.example", h, seconds(w.between(120, 400)), w.mixed(500, share))
	if !attacker {
		w.never(used...)
		return
	}
	for _, a := range used[120:] {
		w.truth.Banned[a] = 2
	}
}

// Eight guessers in a /24, and a host between them that writes to a dozen, two
// of them misspelt; or that guesses too.
func pairNeighbour(w *wild, attacker bool) {
	b := w.addr4().As4()
	host := func(i int) netip.Addr { b[3] = byte(40 + i); return netip.AddrFrom4(b) }
	for range 6 {
		w.after(3 * time.Hour)
		w.send(host(100), "u@firm.example", good(w.known())...)
	}
	for i := range 8 {
		w.name(always(host(i)), "x@bot.example", w.habit(), seconds(3), w.guesses(60))
		w.truth.Banned[host(i)] = 25
	}
	list := w.guesses(150)
	if !attacker {
		list = append(list[:2], good(w.known(), w.known(), w.known(), w.known(), w.known(), w.known(), w.known(), w.known(), w.known(), w.known())...)
		w.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	w.name(always(host(100)), "u@firm.example", habit{1, 1, true}, seconds(20), list)
	w.verdict(attacker, host(100), 125) // he was known
}

// A firm is bought, and all its mailboxes are closed: its partners write on
// from forty hosts. Or nobody ever had such mailboxes.
func pairMerger(w *wild, attacker bool) {
	list := w.once(200)
	if attacker {
		w.lines = w.lines[:len(w.lines)-200]
	}
	w.now = w.now.Add(9 * 24 * time.Hour)
	w.begin = w.now
	for range 40 {
		a := w.addr4()
		var rcpts []said
		for _, i := range w.rng.Perm(200)[:40] {
			rcpts = append(rcpts, list[i])
		}
		at := w.now
		w.name(always(a), "p@bought.example", habit{2, 3, true}, seconds(60), rcpts)
		w.now = at.Add(time.Minute)
		w.verdict(attacker, a, 40)
	}
}

// Mail of five days earns trust; then 300 guesses in an hour and nothing else,
// or 60 among as many acquaintances.
func pairEarned(w *wild, attacker bool) {
	a := w.addr4()
	for range 40 {
		w.after(3 * time.Hour)
		w.send(a, "u@firm.example", good(w.known())...)
	}
	if attacker {
		w.name(always(a), "x@firm.example", habit{1, 3, false}, seconds(10), w.guesses(300))
	} else {
		w.name(always(a), "x@firm.example", habit{1, 3, true}, seconds(10), w.mixed(120, 0.5))
	}
	w.verdict(attacker, a, 140)
}

// Every Monday for ten weeks 30 recipients: three of them misspelt, each time
// others, or all of them nobody.
func pairWeekly(w *wild, attacker bool) {
	a := w.addr()
	share := 0.1
	if attacker {
		share = 1
	}
	for range 10 {
		w.name(always(a), "u@firm.example", w.habit(), seconds(w.between(10, 100)), w.mixed(30, share))
		w.now = w.now.Add(7 * 24 * time.Hour)
	}
	w.verdict(attacker, a, 60)
}
